"""Markup shared by all pages: the frame with its styles, and tables."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from nodule_lightning.report.stylesheet import STYLESHEET

FOOTER: Final = "Made with nodule_lightning. Research software, not for clinical use."


def html_page(title: str, parts: Iterable[str], more_styles: str = "") -> str:
    """Join pieces of markup into one self-contained page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLESHEET}{more_styles}</style></head>\n"
        f"<body><main>\n{chr(10).join(parts)}\n<footer>{escape(FOOTER)}</footer>\n</main></body></html>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table; the cells are inserted as HTML, so text must be escaped before."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
