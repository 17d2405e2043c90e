"""`nodule-evaluate`: score a submission, or several folds together, by the rules of LUNA16 or Tianchi."""

from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._output import require_writable
from nodule_lightning.config.values import optional_number, optional_path, paths, protocol, seed, whole_number

PATH_KEYS = ("submission", "annotations", "excluded", "scans", "output")


def main() -> None:
    """Run the command."""
    run_application(
        evaluate, "evaluate", PATH_KEYS, optional_paths=("excluded", "scans"), list_paths=("submission", "scans")
    )


def evaluate(config: DictConfig) -> float:
    """Score the submission, print the table, write the files and return the score."""
    from rich.console import Console

    from nodule_lightning.evaluation.evaluate import evaluate_submission
    from nodule_lightning.evaluation.terminal import render_evaluation

    require_writable(Path(config.output))
    show = whole_number(config, "show")
    evaluation = evaluate_submission(
        paths(config, "submission"),
        Path(config.annotations),
        optional_path(config, "excluded"),
        paths(config, "scans"),
        Path(config.output),
        protocol=protocol(config),
        threshold=optional_number(config, "threshold"),
        bootstraps=whole_number(config, "bootstraps"),
        seed=seed(config),
    )
    Console().print(render_evaluation(evaluation, show))
    return evaluation.result.mean
