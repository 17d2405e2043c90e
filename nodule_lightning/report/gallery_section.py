"""Markup of a gallery: small pictures with captions as text, readable at any width and copyable."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

KEY: Final = (
    '<p class="faint key"><span><em class="nodule"></em>nodule</span><span><em class="excluded"></em>excluded finding'
    '</span><span><em class="mark"></em>mark</span></p>'
)
GALLERY_STYLES: Final = """
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17.5rem, 100%), 1fr)); gap: 1rem 1.2rem; }
.cases figure { min-width: 0; break-inside: avoid; }
.cases figure img { width: 100%; padding: 0; border-radius: 4px; }
.cases figcaption { margin-top: .3rem; font-size: .82rem; line-height: 1.4; overflow-wrap: anywhere; }
.cases figcaption strong { display: block; color: var(--ink); font-size: .9rem; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .86rem; margin: 0 0 .9rem; }
.key span { display: inline-flex; align-items: center; gap: .4rem; }
.key em { width: 1.15em; height: 1.15em; margin: 3px; border-radius: 50%; background: #333;
  box-shadow: 0 0 0 3px #333; }
.key .nodule { border: 2px solid #f0e442; }
.key .excluded { border: 2px dashed #56b4e9; }
.key .mark { border-radius: 0; background: linear-gradient(#d55e00, #d55e00) center / 100% 2px no-repeat,
  linear-gradient(#d55e00, #d55e00) center / 2px 100% no-repeat, #333; }
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One picture of a gallery.

    Attributes:
        title: most important value.
        lines: further lines of the caption.
        jpeg: the picture as JPEG.
    """

    title: str
    lines: tuple[str, ...]
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Gallery:
    """Gallery section of the page.

    Attributes:
        heading: title of the section.
        caption: what is shown, in what order, and out of how many.
        cases: the pictures; may be empty, then the caption says why.
    """

    heading: str
    caption: str
    cases: Sequence[Case]


def gallery_section(gallery: Gallery) -> str:
    """Render a gallery as HTML, with a legend unless it is empty."""
    cases = "".join(_case(case, rank) for rank, case in enumerate(gallery.cases, start=1))
    body = f'{KEY}<div class="cases">{cases}</div>' if cases else ""
    return f'<section><h2>{escape(gallery.heading)}</h2><p class="faint">{escape(gallery.caption)}</p>{body}</section>'


def _case(case: Case, rank: int) -> str:
    source = f"data:image/jpeg;base64,{b64encode(case.jpeg).decode()}"
    lines = "<br>".join(escape(line) for line in case.lines)
    return (
        f'<figure><img src="{source}" alt="axial, coronal and sagittal plane: {escape(case.title)}" loading="lazy">'
        f"<figcaption><strong>{rank}. {escape(case.title)}</strong>{lines}</figcaption></figure>"
    )
