"""Training: what it refuses before the first step."""

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module

from nodule_lightning.cli import train
from nodule_lightning.data.datamodule import NoduleDataModule
from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import write_scan_ids
from nodule_lightning.training.checks import require_in_use
from nodule_lightning.training.plan import TrainingPlan, decide_auto
from nodule_lightning.training.resuming import require_same_split
from tests.balls import tiny_datamodule, write_balls
from tests.chest import lung_centre
from tests.commands import TINY, Runner, recipe, write_checkpoint, write_reducer_checkpoint

FOUND = "candidates=found (1).csv"
# With these the tiny cache could be trained on.
STARTS = ("data.test_subsets=[0]", "+model.anchors.spacing_mm=4.0")


@pytest.fixture
def datamodule(tmp_path: Path) -> NoduleDataModule:
    module = tiny_datamodule(write_balls(tmp_path / "cache", 8))
    module.setup("fit")
    return module


def test_a_run_goes_on_with_its_own_scans_only(datamodule: NoduleDataModule, tmp_path: Path) -> None:
    split = datamodule.split
    for name in ("train", "validation", "test"):
        write_scan_ids(tmp_path / f"{name}.csv", getattr(split, name))
    require_same_split(tmp_path, datamodule)
    moved, *rest = split.train
    write_scan_ids(tmp_path / "train.csv", rest)
    with pytest.raises(InputError) as error:
        require_same_split(tmp_path, datamodule)
    assert error.value.key == "run-changed"
    assert "train.csv" in str(error.value)
    assert moved in str(error.value)
    write_scan_ids(tmp_path / "train.csv", split.train)
    write_scan_ids(tmp_path / "test.csv", ["gone"])
    with pytest.raises(InputError) as error:
        require_same_split(tmp_path, datamodule)
    assert error.value.key == "run-changed"
    assert "test.csv" in str(error.value)
    assert "gone" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "key", "named"),
    [
        (["data.test_subsets=[0,17]"], "split-invalid", ("17",)),
        (["data.test_subsets=[0,1,2]"], "split-invalid", ()),
        (["data.test_subsets=[0]", "resume=true"], "run-missing", ("paths.run",)),
        (["data.test_subsets=[0]"], "cache-settings-differ", ("+model.anchors.spacing_mm=4.0",)),
        ([*STARTS, "trainer.max_epochs=2"], "argument-conflict", ("trainer.check_val_every_n_epoch=5",)),
        ([*STARTS, "curriculum.stages.only.epochs=3"], "argument-conflict", ("trainer.max_epochs=3",)),
        ([*STARTS, "trainer.max_epochs=-1"], "argument-invalid", ("trainer.max_epochs=-1",)),
        ([*STARTS, "curriculum=talk", "loss=seed_team"], "argument-conflict", ("loss=seed_team",)),
        (
            [*STARTS, "curriculum=talk", "loss.pool=9"],
            "argument-conflict",
            ("loss.pool=9", "STAGE", "mined"),
        ),
        ([*STARTS, "curriculum.stages.only.epochs=0"], "argument-invalid", ("epochs", "0")),
        ([*STARTS, "trainer.accelerator=quantum"], "argument-invalid", ("quantum",)),
        ([*STARTS, "trainer.accelerator=mps"], "argument-invalid", ("MPSAccelerator",)),
        ([*STARTS, "seed=-1"], "argument-invalid", ("seed", "4294967295", "-1")),
        ([*STARTS, "resume=maybe"], "argument-invalid", ("resume", "'maybe'")),
        ([*STARTS, "optim.lr=fast"], "argument-invalid", ("lr", "'fast'")),
        ([*STARTS, "datamodule.workers=many"], "argument-invalid", ("workers", "'many'")),
        ([*STARTS, "model.backbone.blocks=3"], "argument-invalid", ("blocks", "3")),
    ],
)
def test_train_that_cannot_start_leaves_nothing(
    run: Runner, cache: Path, arguments: list[str], key: str, named: tuple[str, ...]
) -> None:
    common = [f"cache={cache}", "model=res_unet_narrow", "data.validation_fraction=0.5"]
    ended = run(train.main, *common, *arguments)
    assert ended.key == key
    for value in named:
        assert value in ended.line()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "key", "named"),
    [
        ([], "cache-settings-differ", "+model.spacing_mm=4.0"),
        (["+model.spacing_mm=4.0", "assign=centres"], "argument-conflict", "CentreAssigner"),
        (["+model.spacing_mm=4.0", "model.levels=[0.5,0.2]"], "argument-invalid", "[0.5, 0.2]"),
    ],
)
def test_a_segmentation_that_cannot_start(run: Runner, cache: Path, arguments: list[str], key: str, named: str) -> None:
    common = [f"cache={cache}", "model=unet3d_segmentation_narrow", "data.test_subsets=[0]"]
    ended = run(train.main, *common, "data.validation_fraction=0.5", *arguments)
    assert ended.key == key
    assert named in ended.line()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "key", "named"),
    [
        ([], "argument-missing", ("candidates",)),
        (["candidates=gone.csv"], "file-missing", ("gone.csv",)),
        (["candidates=null"], "argument-invalid", ("candidates",)),
        ([FOUND], "cache-settings-differ", ("+classifier.spacing_mm=4.0",)),
        ([FOUND, "model=res_unet"], "argument-conflict", ("model=res_unet", "FalsePositiveReducer")),
        ([FOUND, "loss.pool=9"], "argument-conflict", ("loss.pool=9",)),
        ([FOUND, "+inference.overlap=1"], "argument-conflict", ("inference.overlap=1",)),
        ([FOUND, "rescoring.combine=vote"], "argument-invalid", ("combine", "'vote'")),
        ([FOUND, "datamodule.positive_share=1"], "argument-invalid", ("positive_share", "1")),
        ([FOUND, "datamodule.patch_voxels=30"], "argument-invalid", ("patch_voxels", "8", "30")),
        ([FOUND, "data.test_subsets=[0,1,2]"], "split-invalid", ()),
    ],
)
def test_a_second_stage_that_cannot_start(
    run: Runner, cache: Path, arguments: list[str], key: str, named: tuple[str, ...]
) -> None:
    found = Path("found (1).csv")
    x, y, z = lung_centre(1)
    rows = "".join(f"{scan_id},{x},{y},{z},0\n" for scan_id in ("one", "two", "three"))
    found.write_text(f"seriesuid,coordX,coordY,coordZ,class\n{rows}")
    common = [f"cache={cache}", "experiment=reducer", "data.test_subsets=[0]", "data.validation_fraction=0.5"]
    ended = run(train.main, *common, *arguments)
    assert ended.key == key
    for value in named:
        assert value in ended.line()
    assert list(Path.cwd().iterdir()) == [Path.cwd() / found]


def test_a_detector_has_no_candidates(run: Runner, cache: Path) -> None:
    for argument in ("candidates=found.csv", "classifier=wide"):
        ended = run(train.main, f"cache={cache}", argument)
        assert ended.key == "argument-unknown"
        assert argument.partition("=")[0] in ended.line()


def test_train_that_resumes_another_model(run: Runner, cache: Path) -> None:
    write_checkpoint(Path("run/checkpoints/last.ckpt"))
    arguments = [f"cache={cache}", *STARTS, "data.validation_fraction=0.5", "paths.run=run", "resume=true"]
    ended = run(train.main, *arguments, "model=res_unet")
    assert ended.key == "run-changed"
    assert "last.ckpt" in ended.line()
    assert "backbone.channels [" in ended.line()


def test_train_that_resumes_another_optimizer_or_training(run: Runner, cache: Path) -> None:
    write_checkpoint(Path("run/checkpoints/last.ckpt"))
    arguments = [f"cache={cache}", *STARTS, "model=res_unet_narrow", "data.validation_fraction=0.5"]
    resumed = [*arguments, "paths.run=run", "resume=true"]
    for change in ("optim=adamw", "optim.lr=1.0"):
        ended = run(train.main, *resumed, change)
        assert ended.key == "run-changed"
        assert "last.ckpt" in ended.line()
        assert "lr 0.01" in ended.line()
    for change, named in (
        ("augment=strong", "augment.rotation_degrees"),
        ("loss.hard_per_patch=5", "curriculum.stages.only.loss.hard_per_patch 2 and 5"),
        ("curriculum.stages.only.bank_share=0.5", "curriculum.stages.only.bank_share 0.0 and 0.5"),
        ("assign=iou", "assigner._target_"),
        ("seed=7", "seed 0 and 7"),
    ):
        ended = run(train.main, *resumed, change)
        assert ended.key == "run-changed"
        assert "last.ckpt" in ended.line()
        assert named in ended.line()
    # The splits of that run are missing: the next thing that is asked for.
    ended = run(train.main, *resumed)
    assert ended.key == "run-changed"
    assert "train.csv" in ended.line()


def test_a_second_stage_that_resumes_with_other_candidates(run: Runner, cache: Path) -> None:
    x, y, z = lung_centre(1)
    rows = "".join(f"{scan_id},{x},{y},{z},0\n" for scan_id in ("one", "two", "three"))
    for name, more in (("a.csv", ""), ("moved.csv", ""), ("b.csv", f"one,{x},{y},{z + 1},0\n")):
        Path(name).write_text(f"seriesuid,coordX,coordY,coordZ,class\n{rows}{more}")
    was, other = (sha256(Path(name).read_bytes()).hexdigest() for name in ("a.csv", "b.csv"))
    model = recipe("experiment=reducer", "candidates=unused", "+classifier.spacing_mm=4.0")
    about = {"version": "0", "model": {**model, "candidates": {"sha256": was}}, "preparation": TINY.to_dict()}
    write_reducer_checkpoint(Path("run/checkpoints/last.ckpt"), nodule_lightning=about)
    arguments = [
        f"cache={cache}", "experiment=reducer", "+classifier.spacing_mm=4.0", "data.test_subsets=[0]",
        "data.validation_fraction=0.5", "paths.run=run", "resume=true",
    ]  # fmt: skip
    ended = run(train.main, *arguments, "candidates=b.csv")
    assert ended.key == "run-changed"
    for named in ("b.csv", other[:12], "last.ckpt", was[:12]):
        assert named in ended.line()
    # The splits of that run are missing: the next thing that is asked for. The name of the file does not matter.
    for name in ("a.csv", "moved.csv"):
        ended = run(train.main, *arguments, f"candidates={name}")
        assert ended.key == "run-changed"
        assert "train.csv" in ended.line()


def test_a_run_is_not_written_over(run: Runner, cache: Path) -> None:
    path = write_checkpoint(Path("run/checkpoints/last.ckpt"))
    before = path.read_bytes()
    arguments = [f"cache={cache}", *STARTS, "model=res_unet_narrow", "data.validation_fraction=0.5", "paths.run=run"]
    ended = run(train.main, *arguments)
    assert ended.key == "run-exists"
    assert "resume=true" in ended.line()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_torn_last_checkpoint_is_one_line_with_what_to_do(run: Runner, cache: Path, content: bytes | None) -> None:
    last = write_checkpoint(Path("run/checkpoints/last.ckpt"))
    last.write_bytes(last.read_bytes()[:5000] if content is None else content)
    arguments = [f"cache={cache}", *STARTS, "model=res_unet_narrow", "data.validation_fraction=0.5", "paths.run=run"]
    ended = run(train.main, *arguments, "resume=true")
    assert ended.key == "file-damaged"
    assert "last.ckpt" in ended.line()
    assert "best.ckpt" not in ended.line()
    write_checkpoint(last.with_name("best.ckpt"))
    ended = run(train.main, *arguments, "resume=true")
    assert ended.key == "file-damaged"
    assert "best.ckpt" in ended.line()


def test_a_script_that_slurm_has_put_into_the_queue_again_names_its_run(
    run: Runner, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    arguments = [f"cache={cache}", "data.test_subsets=[0]", "data.validation_fraction=0.5", "model=res_unet_narrow"]
    ended = run(train.main, *arguments)
    assert ended.key == "run-missing"
    assert "paths.run=" in ended.line()
    assert "resume=true" not in ended.line()
    # One that had not begun yet begins. The next thing that is asked for.
    assert run(train.main, *arguments, "paths.run=run").key == "cache-settings-differ"
    assert list(Path.cwd().iterdir()) == []


def test_train_that_resumes_a_checkpoint_without_its_preparation(run: Runner, cache: Path) -> None:
    write_checkpoint(Path("run/checkpoints/last.ckpt"), nodule_lightning={"version": "0", "model": recipe()})
    arguments = [f"cache={cache}", *STARTS, "data.validation_fraction=0.5", "paths.run=run", "resume=true"]
    ended = run(train.main, *arguments, "model=res_unet_narrow")
    assert ended.key == "checkpoint-unfit"
    assert "last.ckpt" in ended.line()


def test_what_the_stages_take_may_be_changed() -> None:
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        single, talk = (compose("train", [f"curriculum={name}"]) for name in ("single", "talk"))
    require_in_use(["loss=seed_team", "sampler.negative_share=0.5", "seed=3"], single)
    require_in_use(["sampler=natural", "curriculum.stages.mined.loss.pool=9", "optim.lr=1"], talk)


@pytest.mark.parametrize(
    ("accelerator", "cuda", "amx", "expected"),
    [
        ("auto", True, False, ("bf16-mixed", True)),
        ("cpu", True, False, ("32-true", False)),
        ("auto", False, True, ("bf16-mixed", False)),
        ("auto", False, False, ("32-true", False)),
    ],
)
def test_auto_means_what_the_machine_is_quick_in(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, cuda: bool, amx: bool, expected: tuple[str, bool]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    values = {"accelerator": accelerator, "precision": "auto", "sync_batchnorm": "auto", "max_epochs": 3}
    got = decide_auto(values)
    assert (got["precision"], got["sync_batchnorm"]) == expected
    assert decide_auto({**values, "precision": "16-mixed", "sync_batchnorm": False}) == {
        **values, "precision": "16-mixed", "sync_batchnorm": False
    }  # fmt: skip


def test_the_process_that_launches_others_asks_no_gpu_what_it_can_do(
    run: Runner, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question would initialise CUDA in a process that trains on no GPU."""

    def ask() -> bool:
        raise AssertionError("CUDA is initialised")

    launched: list[str] = []

    def note(work: object, processes: int, plan: TrainingPlan, settings: object) -> list[float]:
        launched.append(plan.trainer["precision"])
        return [0.0] * processes

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", ask)
    monkeypatch.setattr(train, "launch", note)
    monkeypatch.setattr(train, "count_devices", lambda accelerator, devices: 2)
    ended = run(train.main, f"cache={cache}", *STARTS, "model=res_unet_narrow", "trainer=ddp", "paths.run=run")
    assert ended.code == 0, ended.error
    assert launched == ["auto"]
