"""A self-contained HTML page about a cache: every scan before and after the lung crop, the worst first."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from nodule_lightning.cache.entries import PICTURE, entry_folder, list_entries, read_description
from nodule_lightning.cache.failures import read_failures
from nodule_lightning.cache.replacing import lock
from nodule_lightning.io.files import write_error, write_whole
from nodule_lightning.preparation.summary import entry_notes
from nodule_lightning.report.markup import html_page, table

PAGE: Final = "preparation.html"
UNREADABLE: Final = "its entry is damaged or of another version of the cache: prepare the scan again"
_STYLES: Final = """
main { max-width: 100rem; }
.scans { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(44rem, 100%), 1fr)); gap: 0 1rem; }
.scans section { padding: .6rem .8rem; margin-bottom: .8rem; }
.scans h2 { font-size: .82rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.scans img { display: block; width: 100%; height: auto; }
.scans p { margin: .3rem 0 0; font-size: .82rem; }
.look { border-color: var(--warn-line); }
"""


@dataclass(frozen=True, slots=True)
class ScanCheck:
    """The checks of one prepared scan, for the table and the page.

    Attributes:
        scan_id: the scan.
        trouble: severity of the findings; below 1 if there is nothing to look at. Scans are listed by descending
            trouble.
        lungs: the record of the lungs; empty, like the next two, if the entry cannot be read.
        nodules: the record of the nodules.
        spacing_zyx_mm: spacing of the raw scan.
        notes: the notes of the preparation.
    """

    scan_id: str
    trouble: float
    lungs: dict[str, Any]
    nodules: dict[str, int]
    spacing_zyx_mm: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def how(self) -> str:
        """How the lungs were found, in a few words."""
        if not self.lungs:
            return "unreadable"
        if not self.lungs["found"]:
            return "body's box"
        return "cured: " + ", ".join(self.lungs["cures"]) if self.lungs["cures"] else "lungs"

    @property
    def air(self) -> str:
        """The air in the right and in the left lung, in litres."""
        return f"{self.lungs['right_l']:.2f} + {self.lungs['left_l']:.2f}" if self.lungs else "–"

    @property
    def kept(self) -> str:
        """How many nodules lie in the crop and in its mask, of all annotated ones."""
        if not self.nodules:
            return "–"
        return f"{self.nodules['in_crop']}, {self.nodules['in_mask']} of {self.nodules['annotated']}"

    @property
    def spacing(self) -> str:
        """The raw spacing in mm, as x, y, z."""
        return " × ".join(f"{size:.2f}" for size in reversed(self.spacing_zyx_mm)) or "–"


HEADINGS: Final = ("scan", "lungs", "air, l", "nodules", "voxel, mm")


def check_cache(cache: Path) -> list[ScanCheck]:
    """Read the checks of all scans in a cache, the worst first; unreadable entries are the worst of all."""
    with lock(cache):
        return _read_checks(cache)


def row(check: ScanCheck) -> tuple[str, ...]:
    """Return the cells of a scan's row, in the order of `HEADINGS`."""
    return check.scan_id, check.how, check.air, check.kept, check.spacing


def write_preparation_page(cache: Path, failures: Mapping[str, str]) -> Path:
    """Write the page about all scans in a cache.

    The page is made under the cache's lock: if several runs end at the same time, the last one shows all their scans.

    Args:
        cache: the cache's folder; the page is written into it.
        failures: reasons by scan id, in addition to the failures that the cache records.

    Returns:
        The path of the page.

    Raises:
        InputError: the page cannot be written.
    """
    try:
        with lock(cache):
            checks = _read_checks(cache)
            parts = [
                "<h1>Prepared scans</h1>",
                _failures({**read_failures(cache), **failures}),
                _overview(checks),
                f'<div class="scans">{"".join(_scan(cache, check) for check in checks)}</div>',
            ]
            write_whole(cache / PAGE, html_page("Prepared scans", parts, _STYLES).encode())
    except OSError as error:
        raise write_error(cache / PAGE, error) from None
    return cache / PAGE


def _read_checks(cache: Path) -> list[ScanCheck]:
    checks = [_check(cache, scan_id) for scan_id in list_entries(cache)]
    return sorted(checks, key=lambda check: (-check.trouble, check.scan_id))


def _check(cache: Path, scan_id: str) -> ScanCheck:
    try:
        return _judge(scan_id, read_description(cache, scan_id))
    except (LookupError, TypeError, ValueError):
        # Another version (an InputError, which is a ValueError), or damaged but still JSON.
        return ScanCheck(scan_id, float("inf"), {}, {}, (), (UNREADABLE,))


def _judge(scan_id: str, description: dict[str, Any]) -> ScanCheck:
    record, notes = description["record"], entry_notes(description)
    lungs, nodules = record["lungs"], record["nodules"]
    lost = nodules["annotated"] - nodules["in_crop"], nodules["in_crop"] - nodules["in_mask"]
    # From worst to mildest: a nodule outside the crop, no lungs, a nodule outside the mask, a cure, any other note.
    trouble = 1000.0 * lost[0] + 500 * (not lungs["found"]) + 100 * lost[1] + 10 * len(lungs["cures"]) + len(notes)
    # Scans without trouble are sorted by how unequal their lungs are.
    trouble += min((lungs["ratio"] or 1.0) - 1, 9.0) / 10
    return ScanCheck(scan_id, trouble, lungs, nodules, tuple(record["scan"]["spacing_zyx_mm"]), tuple(notes))


def _failures(failures: Mapping[str, str]) -> str:
    if not failures:
        return ""
    items = "".join(f"<li>{escape(scan_id)}: {escape(reason)}</li>" for scan_id, reason in sorted(failures.items()))
    return f'<section class="warning"><h2>Not prepared</h2><ul>{items}</ul></section>'


def _overview(checks: Sequence[ScanCheck]) -> str:
    kinds: dict[str, int] = {}
    for check in checks:
        kinds[check.how] = kinds.get(check.how, 0) + 1
    annotated, in_crop, in_mask = (
        sum(check.nodules.get(key, 0) for check in checks) for key in ("annotated", "in_crop", "in_mask")
    )
    rows = [("scans", str(len(checks))), *((escape(how), str(count)) for how, count in sorted(kinds.items()))]
    rows += [
        ("annotated nodules", str(annotated)),
        ("in the crop", str(in_crop)),
        ("in the mask", str(in_mask)),
        ("scans with a note", str(sum(bool(check.notes) for check in checks))),
    ]
    return (
        f"<section><h2>All scans</h2>{table((), rows)}"
        '<p class="faint">Each picture shows the axial and the coronal slice with most lung, first raw with the crop '
        "(orange) and the mask (blue), then as the network sees them. The worst scans come first.</p></section>"
    )


def _scan(cache: Path, check: ScanCheck) -> str:
    path = entry_folder(cache, check.scan_id) / PICTURE
    picture = b64encode(path.read_bytes()).decode() if path.is_file() else ""
    image = f'<img src="data:image/jpeg;base64,{picture}" alt="{escape(check.scan_id)} before and after">'
    notes = "".join(f"<p>{escape(note)}</p>" for note in check.notes)
    figures = f"{escape(check.how)} · {check.air} l · nodules {check.kept} · {check.spacing} mm"
    return (
        f'<section class="{"look" if check.notes else "well"}"><h2>{escape(check.scan_id)}</h2>'
        f'{image if picture else ""}<p class="faint">{figures}</p>{notes}</section>'
    )
