"""Checkpoints that are none, of another model, or dangerous: one line each, and nothing of them is run."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nodule_lightning.cli import predict
from nodule_lightning.errors import InputError
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.training.checkpoint import CHECKPOINT_KEY, load_detector, read_checkpoint
from tests.commands import TINY, Runner, recipe, write_checkpoint


class Foreign:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("/tmp/must-not-exist"),)  # type: ignore[return-value]


def weights_of_another_model(path: Path) -> None:
    model = recipe()
    model["network"]["hidden"] += 1
    write_checkpoint(path, nodule_lightning={"version": "0", "model": model, "preparation": TINY.to_dict()})


def a_constructor_that_was_another(path: Path) -> None:
    model = recipe()
    del model["network"]["backbone"]
    write_checkpoint(path, nodule_lightning={"version": "0", "model": model, "preparation": TINY.to_dict()})


def another_kind_of_anchors(path: Path) -> None:
    model = recipe()
    model["network"]["anchors"] = {"diameters_mm": [5]}
    write_checkpoint(path, nodule_lightning={"version": "0", "model": model, "preparation": TINY.to_dict()})


def a_target_outside(path: Path) -> None:
    model = recipe()
    model["inference"] = {"_target_": "nodule_lightning.io.processes.os.system", "command": "true"}
    write_checkpoint(path, nodule_lightning={"version": "0", "model": model, "preparation": TINY.to_dict()})


def weights_of_a_failed_training(path: Path) -> None:
    write_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).fill_(float("nan"))
    torch.save(checkpoint, path)


def damaged_on_the_way(path: Path) -> None:
    content = bytearray(write_checkpoint(path).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = bytes(100)
    path.write_bytes(content)


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("hello"), "file-damaged"),
    "empty": (lambda path: path.touch(), "file-damaged"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"a": Foreign()})), "file-unsafe"),
    "foreign objects": (lambda path: torch.save({"a": Foreign()}, path), "file-unsafe"),
    "another program's": (lambda path: torch.save({"state_dict": {}}, path), "file-foreign"),
    "no weights": (lambda path: write_checkpoint(path, state_dict={}), "checkpoint-unfit"),
    "another model's": (weights_of_another_model, "checkpoint-unfit"),
    "of a constructor that was another": (a_constructor_that_was_another, "checkpoint-unfit"),
    "of another kind of anchors": (another_kind_of_anchors, "checkpoint-unfit"),
    "no recipe": (lambda path: torch.save({"nodule_lightning": {}, "state_dict": {}}, path), "checkpoint-unfit"),
    "of a training that failed": (weights_of_a_failed_training, "file-damaged"),
    "damaged on the way": (damaged_on_the_way, "file-damaged"),
    "a target outside": (a_target_outside, "file-unsafe"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_predict_with_a_wrong_checkpoint(run: Runner, cache: Path, tmp_path: Path, name: str) -> None:
    make, key = CHECKPOINTS[name]
    path = tmp_path / "wrong (1).ckpt"
    make(path)
    ended = run(predict.main, f"checkpoint={path}", f"input={cache}", "output=out")
    assert ended.key == key
    assert str(path) in ended.line()
    assert list(Path.cwd().iterdir()) == []
    assert not Path("/tmp/must-not-exist").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_checkpoint_that_finds_no_memory_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def find_none(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "last.ckpt"
    write_checkpoint(path)
    monkeypatch.setattr(torch, "load", find_none)
    with pytest.raises(InputError) as refused:
        read_checkpoint(path)
    assert refused.value.key == "memory-exhausted"
    assert str(path) in str(refused.value)


def test_a_checkpoint_from_before_the_present_layout_of_the_package_loads() -> None:
    """Its recipe names classes by the modules that they were in at that time."""
    path = Path(__file__).parent / "data" / "detector_before_rooms.ckpt"
    detector = load_detector(path)
    assert detector.inference == InferenceSettings(fill_outside_lungs=True)
    assert read_checkpoint(path)[CHECKPOINT_KEY]["model"]["training"]["curriculum"]["_target_"] == (
        "nodule_lightning.data.curriculum.Curriculum"
    )
    stored = torch.load(path, weights_only=True)["state_dict"]
    for name, value in detector.network.state_dict().items():
        assert torch.equal(value, stored[f"network.{name}"]), name
