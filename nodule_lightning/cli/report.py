"""`nodule-report`: one page about a submission on the scans of a cache."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._values import whole_number

if TYPE_CHECKING:
    from nodule_lightning.data.catalog import Catalog
    from nodule_lightning.report.page import Picture
    from nodule_lightning.structures import Candidates

PATH_KEYS = ("submission", "cache", "output", "scans", "root")


def main() -> None:
    """Run the command."""
    run_application(report, "report", PATH_KEYS, optional_paths=("scans", "root"))


def report(config: DictConfig) -> None:
    """Score the submission against the cache's annotations and write the page."""
    from nodule_lightning.data.cache import read_settings
    from nodule_lightning.data.catalog import Catalog
    from nodule_lightning.evaluate import require_scans
    from nodule_lightning.io.tables import read_candidates, read_scan_ids
    from nodule_lightning.metrics.functional import froc
    from nodule_lightning.report.page import write_report

    best = whole_number(config, "best", least=1)
    catalog = Catalog.open(Path(config.cache))
    scan_ids = list(catalog.scan_ids) if config.scans is None else read_scan_ids(Path(config.scans))
    candidates = read_candidates(Path(config.submission))
    require_scans(Path(config.submission), candidates, scan_ids)
    result = froc(candidates, catalog.nodule_table(), catalog.excluded_table(), scan_ids)
    by_scan = candidates.by_scan()
    pictures = [
        *([] if config.root is None else [_crop_picture(catalog, scan_ids[0], Path(config.root))]),
        _gallery(catalog, {scan_id: by_scan[scan_id] for scan_id in scan_ids if scan_id in by_scan}, best),
    ]
    settings = {"scans": len(scan_ids), "preparation": read_settings(catalog.cache)}
    print(write_report(Path(config.output), str(config.title), result, pictures, settings, command(config)))


def command(config: DictConfig) -> str:
    """Give the command line of a report, with what each path is in place of the path.

    The page is passed on to others, and a path may hold a patient's name.
    """
    paths = {key: "DIR" if key in ("cache", "output", "root") else "FILE" for key in PATH_KEYS}
    values = {str(key): value for key, value in config.items() if value is not None}
    arguments = [f"{key}={paths.get(key, value)}" for key, value in values.items()]
    return shlex.join(["nodule-report", *arguments])


def _gallery(catalog: "Catalog", by_scan: dict[str, "Candidates"], best: int) -> "Picture":
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.page import Picture
    from nodule_lightning.report.pictures import cut_tiles, draw_gallery, outcomes

    tiles = []
    for scan_id, candidates in by_scan.items():
        entry = catalog.entry(scan_id)
        fates = outcomes(candidates, catalog.nodules(scan_id), catalog.excluded(scan_id))
        # No more of one scan can be among the best of all.
        top = candidates.best_first()[:best]
        order = (-candidates.probability).argsort(kind="stable")[:best]
        tiles += cut_tiles(entry.ct, entry.grid, top, [fates[place] for place in order], scan_id)
    tiles.sort(key=lambda tile: -tile.probability)
    return Picture(
        "candidates",
        "Best candidates",
        "The candidates of all scans with the highest probability, and what the score makes of them.",
        to_png(draw_gallery(tiles[:best])),
    )


def _crop_picture(catalog: "Catalog", scan_id: str, root: Path) -> "Picture":
    from nodule_lightning.errors import InputError
    from nodule_lightning.io.readers import find_scans, read_scan
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.page import Picture
    from nodule_lightning.report.pictures import draw_lung_crop

    path = find_scans(root).get(scan_id)
    if path is None:
        raise InputError(f"{root} has no scan {scan_id}; give the folder that {catalog.cache} was prepared from")
    scan, entry = read_scan(path), catalog.entry(scan_id)
    figure = draw_lung_crop(scan.hu, scan.grid, entry.ct, entry.lung, entry.grid)
    return Picture("lung_crop", "Lung crop", f"Scan {scan_id} as it was scanned and as it is searched.", to_png(figure))
