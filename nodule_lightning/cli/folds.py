"""`nodule-folds`: search, pool and score the test scans of each fold of a cross-validation."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._output import require_writable
from nodule_lightning.config.instantiate import plain
from nodule_lightning.config.values import flag, names, optional_path, protocol, seed, whole_number
from nodule_lightning.errors import IncompleteError, InputError
from nodule_lightning.evaluation.cross_validation import TrainedFold, find_folds, require_partition
from nodule_lightning.io.run_folder import CHECKPOINTS

if TYPE_CHECKING:
    from nodule_lightning.cache.catalog import Catalog

PATH_KEYS = ("runs", "cache", "output")
CHOICES = ("best", "last")
ANNOTATIONS, EXCLUDED, REPORT = "annotations.csv", "annotations_excluded.csv", "report"
# Number of misses, and of false positives, that are printed.
SHOWN: Final = 5
_OTHER_SETTINGS: Final = ("reducer", "combine", "formats", "show")


def main() -> None:
    """Run the command."""
    run_application(cross_validate, "folds", PATH_KEYS)


def cross_validate(config: DictConfig) -> float:
    """Search the folds that are not searched yet, pool them, write scores and report, and return the score."""
    from rich.console import Console

    from nodule_lightning.cache.catalog import Catalog
    from nodule_lightning.evaluation.evaluate import evaluate_submission
    from nodule_lightning.evaluation.submission_report import ReportRequest, write_submission_report
    from nodule_lightning.evaluation.terminal import render_evaluation

    output, cache = Path(config.output), Path(config.cache)
    require_writable(output)
    partial, rules = flag(config, "partial"), protocol(config)
    numbers = {"bootstraps": whole_number(config, "bootstraps"), "seed": seed(config)}
    if config.checkpoint not in CHOICES:
        raise InputError(f"checkpoint must be {' or '.join(CHOICES)}, not {config.checkpoint!r}", "argument-invalid")
    catalog = Catalog.open(cache)
    folds = find_folds(Path(config.runs), config.checkpoint)
    require_partition(folds, catalog.scan_ids, partial=partial)
    _require_equally_long(folds)
    _search(folds, cache, plain(config.predict))
    submission, scans, given = _pool(folds, output, catalog)
    evaluation = evaluate_submission(
        [fold.submission for fold in folds],
        given[0],
        # Tianchi has no such list, whatever the cache holds.
        given[1] if rules == "luna16" else None,
        [fold.test_scans for fold in folds],
        output,
        protocol=rules,
        **numbers,
    )
    Console().print(render_evaluation(evaluation, SHOWN))
    page = ReportRequest(
        submission,
        cache,
        output / REPORT,
        rules,
        str(config.title),
        "nodule-folds runs=DIR cache=DIR output=DIR",
        scans,
    )
    print(write_submission_report(page))
    return evaluation.result.mean


def _search(folds: Sequence[TrainedFold], cache: Path, given: Mapping[str, Any]) -> None:
    from nodule_lightning.cli.predict import Search, search_scans
    from nodule_lightning.evaluation.record import read_record
    from nodule_lightning.io.run_folder import PREDICTION

    # Read before the first search, so that a misspelt setting is refused even if every fold is searched already.
    settings = _settings(given)
    incomplete = []
    for place, fold in enumerate(folds, start=1):
        heading = f"fold {place} of {len(folds)}, {fold.name}: {len(fold.scan_ids)} test scans"
        if fold.is_searched():
            differing = _differing(read_record(fold.searched / PREDICTION), fold.checkpoint, settings, given)
            if not differing:
                print(f"{heading}, searched already")
                continue
            heading += f", searched again, with another {', '.join(differing)}"
        print(heading, flush=True)
        try:
            search_scans(Search(fold.checkpoint, cache, fold.searched, fold.test_scans, **settings))
        except IncompleteError as error:
            incomplete.append(f"{fold.name}: {error}")
    if incomplete:
        raise IncompleteError(f"nothing is scored, because some scans failed; {'; '.join(incomplete)}")


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read the given settings of `nodule-predict` as arguments of a `Search`."""
    from nodule_lightning.cli._search_options import DEFAULTS, search_options

    if unknown := sorted(set(given) - {*DEFAULTS, *_OTHER_SETTINGS}):
        raise InputError(
            f"nodule-predict has no setting {unknown[0]} that applies to all folds; nodule-predict --help lists them",
            "argument-unknown",
        )
    options = search_options({key: value for key, value in given.items() if key in DEFAULTS})
    if options.devices != 1:
        raise InputError(
            "predict.devices must be 1, because nodule-folds searches one fold after the other: search each fold with"
            " nodule-predict devices=N output=RUN/test_best first, and nodule-folds uses the results",
            "argument-conflict",
        )
    values = {"reducer": None, "combine": None, "formats": [], "show": 0, **given}
    return {
        "options": options,
        "reducer": optional_path(values, "reducer"),
        "combine": values["combine"],
        "formats": tuple(names(values, "formats")),
        "show": whole_number(values, "show"),
    }


def _differing(
    record: Mapping[str, Any], checkpoint: Path, settings: Mapping[str, Any], given: Collection[str]
) -> list[str]:
    """Return what differs from the record of an earlier search: the checkpoint, or settings given here."""
    from nodule_lightning.evaluation.provenance import fingerprint_file

    reducer, stage = settings["reducer"], record.get("reducer") or {}
    there = {
        **record,
        "checkpoint": (record.get("checkpoint") or {}).get("sha256"),
        "reducer": stage.get("sha256"),
        "combine": stage.get("combine"),
    }
    wanted = {
        "checkpoint": fingerprint_file(checkpoint),
        **settings["options"].to_dict(),
        "reducer": None if reducer is None else fingerprint_file(reducer),
        "combine": settings["combine"],
    }
    changing = [name for name in ("mirror", "precision", "memory_gb", "reducer", "combine") if name in given]
    return [name for name in ("checkpoint", *changing) if there.get(name) != wanted[name]]


def _pool(folds: Sequence[TrainedFold], output: Path, catalog: "Catalog") -> tuple[Path, Path, tuple[Path, Path]]:
    """Write the pooled marks, the scan ids, and the nodules and excluded findings; return the files."""
    from nodule_lightning.evaluation.folds import pool, read_folds
    from nodule_lightning.io.run_folder import SEARCHED, SUBMISSION
    from nodule_lightning.io.tables import write_candidates, write_findings, write_scan_ids

    marks = pool(read_folds([fold.submission for fold in folds], [fold.test_scans for fold in folds]))
    annotations, excluded = output / ANNOTATIONS, output / EXCLUDED
    tested = sorted(scan_id for fold in folds for scan_id in fold.scan_ids)
    for path, table in ((annotations, catalog.nodule_table()), (excluded, catalog.excluded_table())):
        write_findings(path, table[table.in_scans(tested)])
    write_candidates(output / SUBMISSION, marks, sized=bool((marks.rows.diameter_mm > 0).any()))
    write_scan_ids(output / SEARCHED, tested)
    return output / SUBMISSION, output / SEARCHED, (annotations, excluded)


def _require_equally_long(folds: Sequence[TrainedFold]) -> None:
    """Refuse folds that trained for fewer epochs than others: a killed fold has a best checkpoint too."""
    from nodule_lightning.training.checkpoint import read_checkpoint

    last = {fold.name: fold.folder / CHECKPOINTS / "last.ckpt" for fold in folds}
    epochs = {name: read_checkpoint(path).get("epoch") for name, path in last.items() if path.exists()}
    longest = max((epoch for epoch in epochs.values() if isinstance(epoch, int)), default=0)
    for name, epoch in epochs.items():
        if isinstance(epoch, int) and epoch < longest:
            raise InputError(
                f"{name} has trained {epoch + 1} epochs and another fold {longest + 1}: finish it with resume=true",
                "run-changed",
            )
