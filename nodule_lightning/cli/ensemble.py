"""`nodule-ensemble`: fuse several submissions into one."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig
from rich.console import Group, RenderableType
from rich.text import Text

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._output import require_writable
from nodule_lightning.config.values import flag, optional_path, paths, protocol, seed, whole_number
from nodule_lightning.errors import InputError

if TYPE_CHECKING:
    from nodule_lightning.ensemble.ensemble import Ensemble
    from nodule_lightning.ensemble.held_out import HeldOut

PATH_KEYS = ("members", "output", "weights", "oof", "oof_scans", "annotations", "excluded")
LISTS = ("members", "weights", "oof", "oof_scans")
METHODS = ("weighted", "consensus")
SEARCH = "search"


def main() -> None:
    """Run the command."""
    run_application(fuse, "ensemble", PATH_KEYS, optional_paths=PATH_KEYS[2:], list_paths=LISTS)


def fuse(config: DictConfig) -> None:
    """Fuse the submissions, write the files and print the weight of each member."""
    from rich.console import Console

    from nodule_lightning.ensemble.ensemble import fuse_submissions

    output = Path(config.output)
    if output.suffix != ".csv":
        raise InputError(f"output={output} must be a csv file, {output}/submission.csv for example", "argument-invalid")
    require_writable(output.parent)
    agree, search, calibrated = _agree(config), config.weights == SEARCH, flag(config, "calibrate")
    ensemble = fuse_submissions(
        paths(config, "members"),
        output,
        weights=None if search else _weights(config),
        agree=agree,
        held_out=_held_out(config, needed=search or calibrated),
        calibrated=calibrated,
        search=search,
        seed=seed(config),
    )
    Console().print(render_ensemble(ensemble))
    print(f"{ensemble.marks} marks are in {output}")


def render_ensemble(ensemble: "Ensemble") -> RenderableType:
    """Lay out the members with their weights, the result of a weight search, and remarks."""
    from nodule_lightning.evaluation.terminal import new_table, warning_lines

    how = "weighted fusion" if ensemble.agree is None else f"consensus of {ensemble.agree or 'more than half'}"
    title = f"{how} of {len(ensemble.shares)} members in {ensemble.scans} scans"
    table = new_table(title, ("member", "out-of-fold"), ("weight", "marks", "scans"))
    for share in ensemble.shares:
        scans = "not known" if share.scans is None else str(share.scans)
        names = Text(share.member), Text(share.out_of_fold or "")
        table.add_row(*names, f"{share.weight:.4f}", str(share.marks), scans)
    parts: list[RenderableType] = [table]
    if (found := ensemble.search) is not None:
        parts.append(
            Text(
                f"out-of-fold FROC with these weights {found.score:.4f}, with equal ones {found.equal_score:.4f};"
                f" {found.tried} weights tried"
            )
        )
    return Group(*parts, *warning_lines(ensemble.remarks))


def _agree(config: DictConfig) -> int | None:
    if config.method not in METHODS:
        raise InputError(f"method must be {' or '.join(METHODS)}, not {config.method!r}", "argument-invalid")
    if config.method == "weighted":
        if config.agree is not None:
            raise InputError(
                f"agree={config.agree} has no effect without method=consensus; add that, or leave it out",
                "argument-conflict",
            )
        return None
    return 0 if config.agree is None else whole_number(config, "agree", least=1)


def _weights(config: DictConfig) -> list[float] | Path | None:
    value = config.weights
    if not isinstance(value, ListConfig):
        return optional_path(config, "weights")
    try:
        return [float(weight) for weight in value]
    except (TypeError, ValueError):
        raise InputError(
            f"weights must be numbers, a JSON file or {SEARCH}, not {list(value)}", "argument-invalid"
        ) from None


def _held_out(config: DictConfig, needed: bool) -> "HeldOut | None":
    from nodule_lightning.ensemble.held_out import HeldOut

    given = [key for key in ("oof", "oof_scans", "annotations", "excluded") if config[key] is not None]
    if not needed:
        if given:
            raise InputError(
                f"{given[0]}= has no effect without calibrate=true or weights={SEARCH}; leave it out",
                "argument-conflict",
            )
        return None
    for key in ("oof", "annotations"):
        if key not in given:
            raise InputError(
                f"calibrate=true and weights={SEARCH} learn from out-of-fold predictions: give {key}=PATH",
                "argument-missing",
            )
    return HeldOut.read(
        paths(config, "oof"),
        paths(config, "oof_scans"),
        Path(config.annotations),
        optional_path(config, "excluded"),
        protocol(config),
    )
