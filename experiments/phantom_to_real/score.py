"""Score the searches of two real scans, with planted nodules and as they are, each scan on its own.

    python -m experiments.phantom_to_real.score outputs/phantom_to_real [ID...]

With ids, only scans whose id starts with one of them count, so that a scan can stay unseen until the end. Prints the
sensitivity for the planted nodules by their size at 1 and 4 false positives per scan, and the rank of every real
nodule; draws the first twenty false positives of the untouched scans.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

import nodule_lightning as nl
from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.metrics.functional.comparison import compare
from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.report.canvas import to_png
from nodule_lightning.report.pictures import Outcome, cut_tiles, draw_gallery, outcomes

RATES = (1.0, 4.0)
LEAST_MM = 5.0
PICTURED = 20


def sensitivities(
    marks: nl.Table[nl.Candidates],
    planted: nl.Table[nl.Findings],
    others: nl.Table[nl.Findings],
    scan_ids: Sequence[str],
) -> dict[str, list[float]]:
    """Return the sensitivity for the planted nodules at `RATES`, by size and for all from `LEAST_MM` on.

    Args:
        marks: of all scans.
        planted: the nodules that count.
        others: findings that count neither way, including the scans' own nodules.
        scan_ids: the scans that count.
    """
    comparison, _ = compare(marks, planted, others, scan_ids, Protocol.LUNA16)
    diameter_mm = comparison.nodules.rows.diameter_mm
    groups = {f"{size:g} mm": diameter_mm == size for size in np.unique(diameter_mm)}
    groups[f"{LEAST_MM:g} mm and over"] = diameter_mm >= LEAST_MM
    return {
        f"{name} ({np.count_nonzero(wanted)})": comparison.curve(wanted).at(RATES).tolist()
        for name, wanted in groups.items()
    }


def print_planted(output: Path, shown: tuple[str, ...], console: Console) -> None:
    """Print a table for each of the real scans."""
    catalog = Catalog.open(output / "planted_cache")
    marks = nl.read_candidates(output / "planted_prediction" / "submission.csv")
    planted = nl.read_findings(output / "planted" / "planted.csv")
    known = catalog.nodule_table()
    was_planted = np.isin(known.rows.centre_xyz_mm, planted.rows.centre_xyz_mm).all(axis=1)
    own = known[np.flatnonzero(~was_planted)]
    excluded = catalog.excluded_table()
    others = nl.Table(
        np.concatenate([own.scan_id, excluded.scan_id]), nl.Findings.concatenate([own.rows, excluded.rows])
    )
    for source in sorted(
        {scan_id.partition("-planted")[0] for scan_id in catalog.scan_ids if scan_id.startswith(shown)}
    ):
        scan_ids = [scan_id for scan_id in catalog.scan_ids if scan_id.startswith(source)]
        table = RichTable(title=f"{source}: {len(scan_ids)} copies", title_justify="left")
        for heading in ("planted (number)", *(f"at {rate:g} false positives" for rate in RATES)):
            table.add_column(heading)
        for name, values in sensitivities(marks, planted, others, scan_ids).items():
            table.add_row(name, *(f"{value:.2f}" for value in values))
        console.print(table)


def print_real(output: Path, shown: tuple[str, ...], console: Console) -> None:
    """Print the rank of each real nodule's best candidate, and draw the first false positives."""
    catalog = Catalog.open(output / "real_cache")
    marks = nl.read_candidates(output / "real_prediction" / "submission.csv").by_scan()
    for scan_id in (scan_id for scan_id in catalog.scan_ids if scan_id.startswith(shown)):
        candidates = marks.get(scan_id, nl.Candidates.empty()).best_first()
        nodules, excluded = catalog.nodules(scan_id), catalog.excluded(scan_id)
        for centre, diameter_mm in zip(nodules.centre_xyz_mm, nodules.diameter_mm, strict=True):
            distance_mm = np.linalg.norm(candidates.centre_xyz_mm - centre, axis=1)
            inside = np.flatnonzero(distance_mm < diameter_mm / 2)
            found = "not found"
            if len(inside):
                rank = int(inside[0])
                found = f"rank {rank + 1}, p {candidates.probability[rank]:.3f}, {distance_mm[rank]:.1f} mm away"
            console.print(f"{scan_id}: the nodule of {diameter_mm:.1f} mm: {found}", soft_wrap=True)
        judged = outcomes(candidates, nodules, excluded)
        false = np.array(
            [row for row, outcome in enumerate(judged) if outcome is Outcome.FALSE_POSITIVE], dtype=np.int64
        )
        false = false[:PICTURED]
        entry = catalog.entry(scan_id)
        tiles = cut_tiles(entry.ct, entry.grid, candidates[false], [judged[row] for row in false], "")
        (output / f"false_positives_{scan_id}.png").write_bytes(to_png(draw_gallery(tiles)))


def main() -> None:
    """Print both tables and draw the false positives."""
    output, shown, console = Path(sys.argv[1]), tuple(sys.argv[2:]) or ("",), Console(width=110)
    print_planted(output, shown, console)
    print_real(output, shown, console)


if __name__ == "__main__":
    main()
