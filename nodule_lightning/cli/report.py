"""`nodule-report`: write an HTML report about a submission on the scans of a cache."""

import shlex
from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._output import require_writable
from nodule_lightning.config.values import optional_path, paths, protocol, whole_number

PATH_KEYS = ("submission", "cache", "output", "scans", "root", "run", "compare")
OPTIONAL = ("scans", "root", "run", "compare")


def main() -> None:
    """Run the command."""
    run_application(report, "report", PATH_KEYS, optional_paths=OPTIONAL, list_paths=("compare",))


def report(config: DictConfig) -> None:
    """Score the submission against the cache's annotations and write the page."""
    from nodule_lightning.evaluation.submission_report import ReportRequest, write_submission_report
    from nodule_lightning.metrics.functional.mistakes import FALSE_POSITIVES_LISTED

    require_writable(Path(config.output))
    request = ReportRequest(
        submission=Path(config.submission),
        cache=Path(config.cache),
        output=Path(config.output),
        protocol=protocol(config),
        title=str(config.title),
        command=command(config),
        scans=optional_path(config, "scans"),
        root=optional_path(config, "root"),
        run=optional_path(config, "run"),
        compare=paths(config, "compare"),
        best=whole_number(config, "best", least=1),
        misses=whole_number(config, "misses"),
        false_positives=whole_number(config, "false_positives", most=FALSE_POSITIVES_LISTED),
    )
    print(write_submission_report(request))


def command(config: DictConfig) -> str:
    """Return the command line of a report with `FILE` or `DIR` in place of each path.

    The report prints it and may be shared, and a path may contain a patient's name.
    """
    placeholders = {key: "DIR" if key in ("cache", "output", "root", "run") else "FILE" for key in PATH_KEYS}
    placeholders["compare"] = f"[{','.join(['FILE'] * len(paths(config, 'compare')))}]"
    values = {str(key): value for key, value in config.items() if value is not None}
    return shlex.join(["nodule-report", *(f"{key}={placeholders.get(key, value)}" for key, value in values.items())])
