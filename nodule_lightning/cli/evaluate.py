"""`nodule-evaluate`: score a submission by the rules of LUNA16."""

from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._values import seed, whole_number

PATH_KEYS = ("submission", "annotations", "excluded", "scans", "output")


def main() -> None:
    """Run the command."""
    run_application(evaluate, "evaluate", PATH_KEYS, optional_paths=("excluded", "scans"))


def evaluate(config: DictConfig) -> float:
    """Print the table, write the files and give the score."""
    from rich.console import Console

    from nodule_lightning.evaluate import evaluate_submission, render_table

    result = evaluate_submission(
        Path(config.submission),
        Path(config.annotations),
        None if config.excluded is None else Path(config.excluded),
        None if config.scans is None else Path(config.scans),
        Path(config.output),
        whole_number(config, "bootstraps"),
        seed(config),
    )
    Console().print(render_table(result))
    return result.mean
