"""Score a submission on the scans of a cache and write a page about it, for `nodule-report` and `nodule-folds`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.cache.entries import read_settings
from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.evaluate import require_scans
from nodule_lightning.io.files import distinct_names
from nodule_lightning.io.run_folder import AUGMENTATION, SAMPLING
from nodule_lightning.io.settings import ReadingSettings
from nodule_lightning.io.tables import read_candidates, read_scan_ids
from nodule_lightning.metrics.functional import FrocResult, Protocol, froc
from nodule_lightning.structures import Candidates, Table

if TYPE_CHECKING:
    from nodule_lightning.report.page import Picture


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What a report is made of.

    Attributes:
        submission: csv of the marks.
        cache: of the scans, with their annotations.
        output: folder for the page.
        protocol: whose rules hold.
        title: of the page.
        command: the command line that the page shows, without paths.
        scans: csv of the scans that count; None takes all of the cache.
        root: folder of the raw scans, for a picture of the first one's lung crop.
        run: folder of a training, for its pictures.
        compare: other submissions, whose curves are drawn as well.
        best: how many candidates to show.
        misses: how many misses to show.
        false_positives: how many false positives to show.
    """

    submission: Path
    cache: Path
    output: Path
    protocol: Protocol
    title: str
    command: str
    scans: Path | None = None
    root: Path | None = None
    run: Path | None = None
    compare: Sequence[Path] = ()
    best: int = 18
    misses: int = 60
    false_positives: int = 24


def write_submission_report(request: ReportRequest) -> Path:
    """Score the submission against the cache's annotations, write the page and return its path.

    Raises:
        InputError: a file cannot be read, or a scan was not prepared.
    """
    from nodule_lightning.report.galleries import false_positives_gallery, misses_gallery
    from nodule_lightning.report.page import write_report

    catalog = Catalog.open(request.cache)
    scan_ids = list(catalog.scan_ids) if request.scans is None else read_scan_ids(request.scans)
    for scan_id in scan_ids:
        # The nodules of a scan that was not prepared are not known.
        catalog.nodules(scan_id)
    (marks, result), *others = [
        _scored(path, catalog, scan_ids, request.protocol) for path in (request.submission, *request.compare)
    ]
    pictures = [
        *([] if request.root is None else [_crop_picture(catalog, scan_ids[0], request.root)]),
        *([] if request.run is None else _training_pictures(request.run)),
        _best_candidates(catalog, marks, request.best),
    ]
    most = request.misses, request.false_positives
    galleries = [
        *([misses_gallery(catalog, marks, result.misses.nodules, most[0])] if most[0] else []),
        *([false_positives_gallery(catalog, marks, result.false_positives, most[1])] if most[1] else []),
    ]
    names = distinct_names(request.compare)
    return write_report(
        request.output,
        request.title,
        result,
        pictures,
        {"scans": len(scan_ids), "preparation": read_settings(catalog.cache)},
        request.command,
        galleries=galleries,
        others=[(name, other) for name, (_, other) in zip(names, others, strict=True)],
    )


def _scored(path: Path, catalog: Catalog, scan_ids: list[str], rules: Protocol) -> tuple[Table[Candidates], FrocResult]:
    """Read a submission and score it; give its marks in the scans that count, and the score."""
    candidates = read_candidates(path)
    require_scans(path, candidates, scan_ids)
    # Tianchi has no such list, whatever the cache holds.
    excluded = None if rules is Protocol.TIANCHI else catalog.excluded_table()
    result = froc(candidates, catalog.nodule_table(), excluded, scan_ids, protocol=rules)
    return candidates[candidates.in_scans(scan_ids)], result


def _best_candidates(catalog: Catalog, marks: Table[Candidates], most: int) -> "Picture":
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


def _crop_picture(catalog: Catalog, scan_id: str, root: Path) -> "Picture":
    from nodule_lightning.io.readers import read_scan
    from nodule_lightning.io.scan_folders import find_scans
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.page import Picture
    from nodule_lightning.report.pictures import draw_lung_crop

    path = find_scans(root).get(scan_id)
    if path is None:
        raise InputError(
            f"{root} has no scan {scan_id}; give the folder that {catalog.cache} was prepared from", "scan-unknown"
        )
    entry = catalog.entry(scan_id)
    scan = read_scan(path, ReadingSettings.of_record(entry.record), scan_id)
    figure = draw_lung_crop(scan.hu, scan.grid, entry.ct, entry.lung, entry.grid)
    return Picture("lung_crop", "Lung crop", f"Scan {scan_id} as it was scanned and as it is searched.", to_png(figure))


def _training_pictures(run: Path) -> "list[Picture]":
    """Take what the run has drawn of its training data: the sizes, and patches if they were to be shown."""
    from nodule_lightning.report.page import Picture

    sizes, patches = sorted(run.glob(f"{SAMPLING}*.png")), run / f"{AUGMENTATION}.png"
    if not sizes:
        raise InputError(
            f"{run} holds no {SAMPLING}.png: give the folder of a training run, with run=DIR", "file-missing"
        )
    drawn = "The nodules of the training scans, and how often an epoch draws them."
    changed = "Patches of the training as they are cut, and after each change of the augmentation."
    headings = [f"Sizes in training {path.stem.removeprefix(SAMPLING).replace('_', ' ')}".strip() for path in sizes]
    return [
        *(Picture(path.stem, heading, drawn, path.read_bytes()) for path, heading in zip(sizes, headings, strict=True)),
        *([Picture(AUGMENTATION, "Augmentation", changed, patches.read_bytes())] if patches.exists() else []),
    ]
