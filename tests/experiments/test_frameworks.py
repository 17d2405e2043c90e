"""The comparison of frameworks: which rule is chosen, and that the script's runs are found."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from experiments.frameworks.score import RULES, best_rule, submissions, validation_scores, validation_table
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.detection.spheres import SphereAssigner
from nodule_lightning.losses.segmentation import SegmentationLoss
from nodule_lightning.models.heads import SegmentationDetector

SCRIPT = Path(__file__).parents[2] / "experiments" / "frameworks" / "run.sh"
HEADER = "epoch,loss/total,val/froc,val/froc_detector,val/froc_mean,val/froc_reducer,val/froc_geometric"


def write_metrics(run: Path, *starts: list[str]) -> Path:
    for number, rows in enumerate(starts):
        folder = run / "metrics" / f"version_{number}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return run


def test_the_rule_of_the_best_mean_on_the_validation_scans_is_chosen(tmp_path: Path) -> None:
    first = write_metrics(tmp_path / "seed=0", ["1,0.5,,,,,", "1,,0.1,0.1,0.1,0.1,0.1", "3,,0.8,0.5,0.7,0.6,0.8"], [])
    # Killed and resumed; the tenth start comes after the second.
    second = write_metrics(tmp_path / "seed=1", ["1,,0.2,0.2,0.2,0.2,0.2"], *[[]] * 9, ["3,,0.6,0.4,0.8,0.5,0.6"])
    scores = validation_scores([first, second])
    assert scores == {"detector": [0.5, 0.4], "product": [0.8, 0.6], "mean": [0.7, 0.8], "reducer": [0.6, 0.5]}
    assert best_rule(scores) == "mean"
    assert best_rule({**scores, "product": [0.8, 0.7]}) == "product"
    # Whatever the detector alone had.
    assert best_rule({**scores, "detector": [1.0, 1.0]}) in RULES
    assert list(validation_table(scores))[2:4] == [
        "| detector | 0.500, 0.400 | 0.450 |", "| product | 0.800, 0.600 | 0.700 |"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("framework", "overrides"),
    [
        ("detection", []),
        (
            "segmentation",
            ["model=unet3d_segmentation_narrow", "assign=spheres", "loss=segmentation", "~loss.hard_per_patch"],
        ),
    ],
)
def test_the_experiment_names_its_folders_as_the_score_does(
    tmp_path: Path, framework: str, overrides: list[str]
) -> None:
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        config = compose("train", ["experiment=ablation", *overrides, "seed=7"], return_hydra_config=True)
    folder = tmp_path / "runs" / config.hydra.sweep.subdir / "test"
    folder.mkdir(parents=True)
    (folder / "submission.csv").touch()
    assert submissions(tmp_path, "mean")[framework] == [folder / "submission.csv"]
    assert all(argument in SCRIPT.read_text(encoding="utf-8") for argument in overrides)


def test_the_scripts_segmentation_can_be_built() -> None:
    arguments = ["model=unet3d_segmentation_narrow", "assign=spheres", "loss=segmentation", "~loss.hard_per_patch"]
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        config = compose("train", ["experiment=ablation", *arguments])
    assert isinstance(instantiate(config.model), SegmentationDetector)
    assert isinstance(instantiate(config.assign), SphereAssigner)
    assert isinstance(instantiate(config.curriculum).stage(0).loss, SegmentationLoss)


def test_the_second_stage_is_found_where_the_script_puts_it(tmp_path: Path) -> None:
    for rule in RULES:
        folder = tmp_path / "reducers" / "seed=0" / "test" / rule
        folder.mkdir(parents=True)
        (folder / "submission.csv").touch()
    found = submissions(tmp_path, "mean")
    rules = {name: [path.parent.name for path in paths] for name, paths in found.items()}
    assert rules["classification of the detector's candidates"] == ["reducer"]
    assert rules["detection and classification (mean)"] == ["mean"]
