"""`nodule-report`: one page about a submission on the scans of a cache."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._output import require_writable
from nodule_lightning.config.values import paths, protocol, whole_number

if TYPE_CHECKING:
    from nodule_lightning.cache.catalog import Catalog
    from nodule_lightning.metrics.functional import FrocResult, Protocol
    from nodule_lightning.report.page import Picture
    from nodule_lightning.structures import Candidates, Table

PATH_KEYS = ("submission", "cache", "output", "scans", "root", "run", "compare")
OPTIONAL = ("scans", "root", "run", "compare")


def main() -> None:
    """Run the command."""
    run_application(report, "report", PATH_KEYS, optional_paths=OPTIONAL, list_paths=("compare",))


def report(config: DictConfig) -> None:
    """Score the submission against the cache's annotations and write the page."""
    from nodule_lightning.cache.catalog import Catalog
    from nodule_lightning.cache.entries import read_settings
    from nodule_lightning.io.files import distinct_names
    from nodule_lightning.io.tables import read_scan_ids
    from nodule_lightning.metrics.functional.mistakes import FALSE_POSITIVES_LISTED
    from nodule_lightning.report.galleries import false_positives_gallery, misses_gallery
    from nodule_lightning.report.page import write_report

    require_writable(Path(config.output))
    best, misses = whole_number(config, "best", least=1), whole_number(config, "misses")
    wrong = whole_number(config, "false_positives", most=FALSE_POSITIVES_LISTED)
    compared = paths(config, "compare")
    catalog = Catalog.open(Path(config.cache))
    scan_ids = list(catalog.scan_ids) if config.scans is None else read_scan_ids(Path(config.scans))
    for scan_id in scan_ids:
        # What is to be found in a scan that was not prepared is not known.
        catalog.nodules(scan_id)
    rules = protocol(config)
    (marks, result), *others = [
        _scored(path, catalog, scan_ids, rules) for path in (Path(config.submission), *compared)
    ]
    pictures = [
        *([] if config.root is None else [_crop_picture(catalog, scan_ids[0], Path(config.root))]),
        *([] if config.run is None else _training_pictures(Path(config.run))),
        _best_candidates(catalog, marks, best),
    ]
    galleries = [
        *([misses_gallery(catalog, marks, result.misses.nodules, misses)] if misses else []),
        *([false_positives_gallery(catalog, marks, result.false_positives, wrong)] if wrong else []),
    ]
    settings = {"scans": len(scan_ids), "preparation": read_settings(catalog.cache)}
    page = write_report(
        Path(config.output),
        str(config.title),
        result,
        pictures,
        settings,
        command(config),
        galleries=galleries,
        others=[(name, other) for name, (_, other) in zip(distinct_names(compared), others, strict=True)],
    )
    print(page)


def command(config: DictConfig) -> str:
    """Give the command line of a report, with what each path is in place of the path.

    The page is passed on to others, and a path may hold a patient's name.
    """
    stands_for = {key: "DIR" if key in ("cache", "output", "root", "run") else "FILE" for key in PATH_KEYS}
    stands_for["compare"] = f"[{','.join(['FILE'] * len(paths(config, 'compare')))}]"
    values = {str(key): value for key, value in config.items() if value is not None}
    arguments = [f"{key}={stands_for.get(key, value)}" for key, value in values.items()]
    return shlex.join(["nodule-report", *arguments])


def _scored(
    path: Path, catalog: "Catalog", scan_ids: list[str], rules: "Protocol"
) -> "tuple[Table[Candidates], FrocResult]":
    """Read a submission and score it; give its marks in the scans that count, and the score."""
    from nodule_lightning.evaluation.evaluate import require_scans
    from nodule_lightning.io.tables import read_candidates
    from nodule_lightning.metrics.functional import Protocol, froc

    candidates = read_candidates(path)
    require_scans(path, candidates, scan_ids)
    # Tianchi has no such list, whatever the cache holds.
    excluded = None if rules is Protocol.TIANCHI else catalog.excluded_table()
    result = froc(candidates, catalog.nodule_table(), excluded, scan_ids, protocol=rules)
    return candidates[candidates.in_scans(scan_ids)], result


def _best_candidates(catalog: "Catalog", marks: "Table[Candidates]", most: int) -> "Picture":
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.galleries import best_tiles
    from nodule_lightning.report.page import Picture
    from nodule_lightning.report.pictures import draw_gallery

    return Picture(
        "candidates",
        "Best candidates",
        "The candidates of all scans with the highest probability, and what the score makes of them.",
        to_png(draw_gallery(best_tiles(catalog, marks, most))),
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


def _training_pictures(run: Path) -> "list[Picture]":
    """Take what the run has drawn of its training data: the sizes, and patches if they were to be shown."""
    from nodule_lightning.errors import InputError
    from nodule_lightning.report.page import Picture
    from nodule_lightning.training.callbacks.training_data import AUGMENTATION, SAMPLING

    sizes, patches = sorted(run.glob(f"{SAMPLING}*.png")), run / f"{AUGMENTATION}.png"
    if not sizes:
        raise InputError(f"{run} holds no {SAMPLING}.png: give the folder of a training run, with run=DIR")
    drawn = "The nodules of the training scans, and how often an epoch draws them."
    changed = "Patches of the training as they are cut, and after each change of the augmentation."
    headings = [f"Sizes in training {path.stem.removeprefix(SAMPLING).replace('_', ' ')}".strip() for path in sizes]
    return [
        *(Picture(path.stem, heading, drawn, path.read_bytes()) for path, heading in zip(sizes, headings, strict=True)),
        *([Picture(AUGMENTATION, "Augmentation", changed, patches.read_bytes())] if patches.exists() else []),
    ]
