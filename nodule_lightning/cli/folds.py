"""`nodule-folds`: search, pool and score what each training of a cross-validation has kept back."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._output import require_writable
from nodule_lightning.config.quoting import escape_interpolations
from nodule_lightning.config.values import flag, protocol, seed, whole_number
from nodule_lightning.errors import IncompleteError, InputError
from nodule_lightning.evaluation.cross_validation import TrainedFold, find_folds, require_partition
from nodule_lightning.io.run_folder import CHECKPOINTS

if TYPE_CHECKING:
    from nodule_lightning.cache.catalog import Catalog

PATH_KEYS = ("runs", "cache", "output")
CHOICES = ("best", "last")
ANNOTATIONS, EXCLUDED, REPORT = "annotations.csv", "annotations_excluded.csv", "report"


def main() -> None:
    """Run the command."""
    run_application(cross_validate, "folds", PATH_KEYS)


def cross_validate(config: DictConfig) -> float:
    """Search what is not searched yet, pool, score, report, and give the score."""
    from nodule_lightning.cache.catalog import Catalog
    from nodule_lightning.cli.evaluate import evaluate
    from nodule_lightning.cli.report import report

    output, cache = Path(config.output), Path(config.cache)
    require_writable(output)
    partial, rules = flag(config, "partial"), protocol(config)
    numbers = {"bootstraps": whole_number(config, "bootstraps"), "seed": seed(config)}
    if config.checkpoint not in CHOICES:
        raise InputError(f"checkpoint must be {' or '.join(CHOICES)}, not {config.checkpoint!r}")
    catalog = Catalog.open(cache)
    folds = find_folds(Path(config.runs), config.checkpoint)
    require_partition(folds, catalog.scan_ids, partial=partial)
    _require_equally_long(folds)
    _search(folds, cache, config.predict)
    submission, scans, given = _pool(folds, output, catalog)
    settings = {
        "submission": [fold.submission for fold in folds],
        "scans": [fold.test_scans for fold in folds],
        "annotations": given[0],
        # Tianchi has no such list, whatever the cache holds.
        "excluded": given[1] if rules == "luna16" else None,
        "output": output,
        "protocol": rules.value,
        **numbers,
    }
    score = evaluate(command("evaluate", settings))
    page = {"submission": submission, "scans": scans, "cache": cache, "output": output / REPORT}
    report(command("report", {**page, "protocol": rules.value, "title": str(config.title)}))
    return score


def command(name: str, settings: Mapping[str, object]) -> DictConfig:
    """Compose the configuration of another command, with these settings.

    Raises:
        InputError: the command knows no such setting.
    """
    from hydra import compose

    config = compose(name)
    for key, value in settings.items():
        try:
            OmegaConf.update(config, key, _literal(value))
        except OmegaConfBaseException:
            raise InputError(f"nodule-{name} has no setting {key}; nodule-{name} --help lists them") from None
    return config


def _search(folds: Sequence[TrainedFold], cache: Path, extra: DictConfig) -> None:
    from nodule_lightning.cli.predict import search
    from nodule_lightning.io.run_folder import PREDICTION
    from nodule_lightning.training.record import read_record

    given = OmegaConf.to_container(extra)
    assert isinstance(given, dict)
    # A misspelt one is found before the first fold, and also where all are searched.
    settings = {str(key): value for key, value in given.items()}
    wanted = command("predict", settings)
    if wanted.get("devices", 1) != 1:
        raise InputError(
            "predict.devices cannot be shared here, where one fold is searched after the other: share the scans of each"
            " fold with nodule-predict devices=N output=RUN/test_best, and nodule-folds takes what is there"
        )
    incomplete = []
    for place, fold in enumerate(folds, start=1):
        heading = f"fold {place} of {len(folds)}, {fold.name}: {len(fold.scan_ids)} test scans"
        if fold.is_searched():
            differing = _differing(read_record(fold.searched / PREDICTION), fold.checkpoint, wanted, settings)
            if not differing:
                print(f"{heading}, searched already")
                continue
            heading += f", searched again, with another {', '.join(differing)}"
        print(heading, flush=True)
        paths = {"checkpoint": fold.checkpoint, "input": cache, "scans": fold.test_scans, "output": fold.searched}
        try:
            search(command("predict", {"show": 0, **settings, **paths}))
        except IncompleteError as error:
            incomplete.append(f"{fold.name}: {error}")
    if incomplete:
        raise IncompleteError(f"nothing is scored, because some scans failed; {'; '.join(incomplete)}")


def _differing(record: Mapping[str, Any], checkpoint: Path, config: DictConfig, given: Collection[str]) -> list[str]:
    """Name what the record of an earlier search says otherwise: the checkpoint, or a setting that was given."""
    from nodule_lightning.cli._search_options import search_options
    from nodule_lightning.config.values import optional_path
    from nodule_lightning.evaluation.provenance import fingerprint_file

    reducer, stage = optional_path(config, "reducer"), record.get("reducer") or {}
    there = {
        **record,
        "checkpoint": (record.get("checkpoint") or {}).get("sha256"),
        "reducer": stage.get("sha256"),
        "combine": stage.get("combine"),
    }
    wanted = {
        "checkpoint": fingerprint_file(checkpoint),
        **search_options(config).to_dict(),
        "reducer": None if reducer is None else fingerprint_file(reducer),
        "combine": config.combine,
    }
    changing = [name for name in ("mirror", "precision", "memory_gb", "reducer", "combine") if name in given]
    return [name for name in ("checkpoint", *changing) if there.get(name) != wanted[name]]


def _pool(folds: Sequence[TrainedFold], output: Path, catalog: "Catalog") -> tuple[Path, Path, tuple[Path, Path]]:
    """Write the pooled marks, the scans, and the nodules and excluded findings in them; give the files."""
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
    """Refuse folds of which some were killed in the middle: they have a best checkpoint too."""
    from nodule_lightning.training.checkpoint import read_checkpoint

    last = {fold.name: fold.folder / CHECKPOINTS / "last.ckpt" for fold in folds}
    epochs = {name: read_checkpoint(path).get("epoch") for name, path in last.items() if path.exists()}
    longest = max((epoch for epoch in epochs.values() if isinstance(epoch, int)), default=0)
    for name, epoch in epochs.items():
        if isinstance(epoch, int) and epoch < longest:
            raise InputError(
                f"{name} has trained {epoch + 1} epochs and another fold {longest + 1}: let it end, with resume=true"
            )


def _literal(value: object) -> object:
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return escape_interpolations(str(value)) if isinstance(value, str | Path) else value
