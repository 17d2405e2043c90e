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
from nodule_lightning.training.plan import decide_auto
from nodule_lightning.training.resuming import require_same_split
from tests.balls import tiny_datamodule, write_balls
from tests.chest import lung_centre
from tests.commands import TINY, Runner, recipe, write_checkpoint, write_reducer_checkpoint

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
    with pytest.raises(InputError, match=rf"train\.csv has other scans .*such as {moved}"):
        require_same_split(tmp_path, datamodule)
    write_scan_ids(tmp_path / "train.csv", split.train)
    write_scan_ids(tmp_path / "test.csv", ["gone"])
    with pytest.raises(InputError, match=r"test\.csv has other scans .*such as gone"):
        require_same_split(tmp_path, datamodule)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["data.test_subsets=[0,17]"], "17"),
        (["data.test_subsets=[0,1,2]"], "no scan is left to train on"),
        (["data.test_subsets=[0]", "resume=true"], "paths.run=DIR"),
        (["data.test_subsets=[0]"], "+model.anchors.spacing_mm=4.0"),
        ([*STARTS, "trainer.max_epochs=2"], "trainer.check_val_every_n_epoch=5"),
        ([*STARTS, "curriculum.stages.only.epochs=3"], "trainer.max_epochs=3 ends before"),
        ([*STARTS, "trainer.max_epochs=-1"], "trainer.max_epochs=-1 has no end"),
        ([*STARTS, "curriculum=talk", "loss=seed_team"], "loss=seed_team has no effect"),
        ([*STARTS, "curriculum=talk", "loss.pool=9"], "change curriculum.stages.STAGE.loss.KEY (STAGE: plain, mined"),
        ([*STARTS, "curriculum.stages.only.epochs=0"], "a stage needs epochs >= 1"),
        ([*STARTS, "trainer.accelerator=quantum"], "quantum"),
        ([*STARTS, "trainer.accelerator=mps"], "the trainer cannot be made"),
        ([*STARTS, "seed=-1"], "seed must be a whole number from 0 to 4294967295, not -1"),
        ([*STARTS, "resume=maybe"], "resume must be true or false, not 'maybe'"),
        ([*STARTS, "optim.lr=fast"], "lr must be float | torch.Tensor, not 'fast'"),
        ([*STARTS, "datamodule.workers=many"], "workers must be int, not 'many'"),
        ([*STARTS, "model.backbone.blocks=3"], "blocks must be"),
    ],
)
def test_train_that_cannot_start_leaves_nothing(run: Runner, cache: Path, arguments: list[str], named: str) -> None:
    common = [f"cache={cache}", "model=res_unet_narrow", "data.validation_fraction=0.5"]
    assert named in run(train.main, *common, *arguments).line()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "of a segmentation +model.spacing_mm=4.0"),
        (["+model.spacing_mm=4.0", "assign=centres"], "assign=spheres and loss=segmentation are for segmentations"),
        (["+model.spacing_mm=4.0", "model.levels=[0.5,0.2]"], "[0.5, 0.2]"),
    ],
)
def test_a_segmentation_that_cannot_start(run: Runner, cache: Path, arguments: list[str], named: str) -> None:
    common = [f"cache={cache}", "model=unet3d_segmentation_narrow", "data.test_subsets=[0]"]
    assert named in run(train.main, *common, "data.validation_fraction=0.5", *arguments).line()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "missing: candidates=VALUE"),
        (["candidates=gone.csv"], "gone.csv does not exist"),
        (["candidates=null"], "candidates must be"),
        (["candidates=found (1).csv"], "of a second stage +classifier.spacing_mm=4.0"),
        (
            ["candidates=found (1).csv", "model=res_unet"],
            "because a FalsePositiveReducer does not use model",
        ),
        (["candidates=found (1).csv", "loss.pool=9"], "loss.pool=9 has no effect"),
        (["candidates=found (1).csv", "+inference.overlap=1"], "inference.overlap=1 has no effect"),
        (["candidates=found (1).csv", "rescoring.combine=vote"], "combine must be product, geometric, mean, reducer"),
        (["candidates=found (1).csv", "datamodule.positive_share=1"], "positive_share must lie between 0 and 1"),
        (["candidates=found (1).csv", "datamodule.patch_voxels=30"], "must be a multiple of 8, not 30"),
        (["candidates=found (1).csv", "data.test_subsets=[0,1,2]"], "no scan is left to train on"),
    ],
)
def test_a_second_stage_that_cannot_start(run: Runner, cache: Path, arguments: list[str], named: str) -> None:
    found = Path("found (1).csv")
    x, y, z = lung_centre(1)
    rows = "".join(f"{scan_id},{x},{y},{z},0\n" for scan_id in ("one", "two", "three"))
    found.write_text(f"seriesuid,coordX,coordY,coordZ,class\n{rows}")
    common = [f"cache={cache}", "experiment=reducer", "data.test_subsets=[0]", "data.validation_fraction=0.5"]
    assert named in run(train.main, *common, *arguments).line()
    assert list(Path.cwd().iterdir()) == [Path.cwd() / found]


def test_a_detector_has_no_candidates(run: Runner, cache: Path) -> None:
    assert "candidates" in run(train.main, f"cache={cache}", "candidates=found.csv").line()
    line = run(train.main, f"cache={cache}", "classifier=wide").line()
    assert "classifier" in line


def test_train_that_resumes_another_model(run: Runner, cache: Path) -> None:
    write_checkpoint(Path("run/checkpoints/last.ckpt"))
    arguments = [f"cache={cache}", *STARTS, "data.validation_fraction=0.5", "paths.run=run", "resume=true"]
    line = run(train.main, *arguments, "model=res_unet").line()
    assert "last.ckpt is a checkpoint of another model" in line
    assert "backbone.channels [" in line


def test_train_that_resumes_another_optimizer_or_training(run: Runner, cache: Path) -> None:
    write_checkpoint(Path("run/checkpoints/last.ckpt"))
    arguments = [f"cache={cache}", *STARTS, "model=res_unet_narrow", "data.validation_fraction=0.5"]
    resumed = [*arguments, "paths.run=run", "resume=true"]
    for change in ("optim=adamw", "optim.lr=1.0"):
        line = run(train.main, *resumed, change).line()
        assert "last.ckpt is a checkpoint of another optimizer (there and wanted): " in line
        assert "lr 0.01 and " in line
    for change, named in (
        ("augment=strong", "augment.rotation_degrees"),
        ("loss.hard_per_patch=5", "curriculum.stages.only.loss.hard_per_patch 2 and 5"),
        ("curriculum.stages.only.bank_share=0.5", "curriculum.stages.only.bank_share 0.0 and 0.5"),
        ("assign=iou", "assigner._target_"),
        ("seed=7", "seed 0 and 7"),
    ):
        line = run(train.main, *resumed, change).line()
        assert "last.ckpt is a checkpoint of another training (there and wanted): " in line
        assert named in line
    # The splits of that run are missing: the next thing that is asked for.
    assert "has other scans" in run(train.main, *resumed).line()


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
    line = run(train.main, *arguments, "candidates=b.csv").line()
    assert f"b.csv (SHA-256 {other[:12]}...) is not the file that " in line
    assert f"last.ckpt was trained on (SHA-256 {was[:12]}...)" in line
    assert "resume with that file" in line
    # The splits of that run are missing: the next thing that is asked for. The name of the file does not matter.
    for name in ("a.csv", "moved.csv"):
        assert "has other scans" in run(train.main, *arguments, f"candidates={name}").line()


def test_a_run_is_not_written_over(run: Runner, cache: Path) -> None:
    path = write_checkpoint(Path("run/checkpoints/last.ckpt"))
    before = path.read_bytes()
    arguments = [f"cache={cache}", *STARTS, "model=res_unet_narrow", "data.validation_fraction=0.5", "paths.run=run"]
    assert "holds a run already: continue it with resume=true" in run(train.main, *arguments).line()
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
    assert "best.ckpt" in run(train.main, *arguments, "resume=true").line()


def test_a_script_that_slurm_has_put_into_the_queue_again_names_its_run(
    run: Runner, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    arguments = [f"cache={cache}", "data.test_subsets=[0]", "data.validation_fraction=0.5", "model=res_unet_narrow"]
    line = run(train.main, *arguments).line()
    assert "set paths.run=DIR in the job script" in line
    assert "resume=true" not in line
    # One that had not begun yet begins. The next thing that is asked for.
    assert "+model.anchors.spacing_mm=4.0" in run(train.main, *arguments, "paths.run=run").line()
    assert list(Path.cwd().iterdir()) == []


def test_train_that_resumes_a_checkpoint_without_its_preparation(run: Runner, cache: Path) -> None:
    write_checkpoint(Path("run/checkpoints/last.ckpt"), nodule_lightning={"version": "0", "model": recipe()})
    arguments = [f"cache={cache}", *STARTS, "data.validation_fraction=0.5", "paths.run=run", "resume=true"]
    assert "another model or version" in run(train.main, *arguments, "model=res_unet_narrow").line()


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
