"""How a command ends: exit codes, one line for what the user can cure, nothing left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from nodule_lightning.cli import evaluate, leaderboard, phantom, plant, predict, prepare, report, train
from nodule_lightning.cli._application import Task, run_application
from nodule_lightning.errors import InputError
from tests.commands import Runner

MAINS = {
    "phantom": phantom.main,
    "plant": plant.main,
    "prepare": prepare.main,
    "train": train.main,
    "predict": predict.main,
    "evaluate": evaluate.main,
    "leaderboard": leaderboard.main,
    "report": report.main,
}


def application(task: Task, config_name: str = "evaluate") -> Callable[[], None]:
    return lambda: run_application(task, config_name, ("submission", "annotations", "output"))


GIVEN = ("submission=a", "annotations=b", "output=c")


@pytest.mark.parametrize("name", MAINS)
def test_help_says_what_the_command_does_with_two_examples(run: Runner, name: str) -> None:
    ended = run(MAINS[name], "--help")
    assert ended.code == 0
    assert ended.out.split("Examples:")[1].count(f"  nodule-{name} ") >= 2
    assert "Powered by Hydra" not in ended.out


@pytest.mark.parametrize("name", MAINS)
def test_a_missing_value_is_named_and_nothing_is_left(run: Runner, name: str) -> None:
    ended = run(MAINS[name])
    assert ended.key == "argument-missing"
    named = {"phantom": "output", "plant": "input", "prepare": "cache", "train": "cache"}
    assert f"{named.get(name, 'output')}=" in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_cfg_and_info_work(run: Runner) -> None:
    assert "max_epochs" in run(train.main, "--cfg", "job", "experiment=demo").out
    assert "nodule_lightning.conf" in run(train.main, "--info", "searchpath").out


@pytest.mark.parametrize(
    ("arguments", "key", "meant"),
    [
        (["cahce=x"], "argument-unknown", "did you mean cache?"),
        (["lr=1"], "argument-unknown", "did you mean optim.lr?"),
        (["trainer.max_epoch=1"], "argument-unknown", "did you mean trainer.max_epochs?"),
        (["optimm=sgd"], "argument-unknown", "did you mean optim?"),
        (["optim=adam"], "argument-unknown", "did you mean adamw?"),
        (["+experiment=dmo"], "argument-unknown", "did you mean demo?"),
        (["experiment=dmo"], "argument-unknown", "did you mean demo?"),
        (["sampler.negative_shre=0"], "argument-unknown", "did you mean sampler.negative_share?"),
        (["model.prior=0.1"], "argument-unknown", "+model.prior="),
        (["seed=[1"], "argument-invalid", "'seed=[1'"),
        (["seed"], "argument-invalid", "'seed'"),
        (["seed=1,2"], "argument-invalid", "multirun"),
    ],
)
def test_a_wrong_argument_is_explained(run: Runner, arguments: list[str], key: str, meant: str) -> None:
    ended = run(train.main, "cache=x", *arguments)
    assert ended.key == key
    assert meant in ended.line()


def test_a_key_that_a_constructor_does_not_know_is_explained(run: Runner) -> None:
    ended = run(phantom.main, "output=x", "+phantom.matrxi=64")
    assert ended.key == "argument-unknown"
    assert "'matrxi'" in ended.line()
    assert ended.line().endswith("did you mean matrix?")


def test_an_input_error_is_one_line_and_code_2(run: Runner) -> None:
    def task(config: DictConfig) -> None:
        raise InputError("the file x\nis empty; fill it", "file-damaged")

    ended = run(application(task), *GIVEN)
    assert ended.line() == "error: the file x is empty; fill it"
    assert ended.key == "file-damaged"


def test_an_interpolation_to_nowhere_is_one_line(run: Runner) -> None:
    assert "nowhere" in run(train.main, "cache=x", "datamodule.seed=${nowhere}").line()


def test_a_bug_keeps_its_traceback(run: Runner) -> None:
    def task(config: DictConfig) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(application(task), *GIVEN)


def test_an_unwritable_place_is_no_bug(run: Runner) -> None:
    Path("c").touch()
    assert "c/d" in run(application(lambda config: Path(config.output, "d").mkdir()), *GIVEN).line()


def test_a_run_folder_that_is_a_file_is_one_line(run: Runner) -> None:
    Path("taken").touch()
    ended = run(train.main, "cache=x", "paths.run=taken")
    assert ended.key == "output-refused"
    assert "taken" in ended.line()


@pytest.mark.parametrize("lightning", [True, False])
def test_ctrl_c_ends_with_130(run: Runner, lightning: bool) -> None:
    def task(config: DictConfig) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if lightning:
                raise SystemExit(1)  # noqa: B904 - as Lightning does it
            raise

    assert run(application(task), *GIVEN).code == 130


def test_a_sweep_runs_the_task_for_every_value_and_keeps_commas_in_paths(run: Runner) -> None:
    seen: list[tuple[Any, ...]] = []
    task = application(lambda config: seen.append((config.seed, config.submission, config.output)))
    own = "output='c/${hydra:job.num}'"
    assert run(task, "-m", "submission=a,b (1)", "annotations=b", own, "seed=0,1").code == 0
    assert seen == [(0, "a,b (1)", "c/0"), (1, "a,b (1)", "c/1")]


def test_flags_stand_anywhere(run: Runner) -> None:
    seen: list[int] = []

    def task(config: DictConfig) -> None:
        seen.append(config.seed)

    ended = run(application(task), *GIVEN[:2], "-m", "output='c/${hydra:job.num}'", "seed=5,9")
    assert ended.code == 0, ended.error
    assert seen == [5, 9]


@pytest.mark.parametrize(
    ("flags", "key", "named"),
    [
        (["--nonsense"], "argument-unknown", "--nonsense"),
        (["-m", "--cfg", "job"], "argument-conflict", "--multirun"),
        (["--cfg"], "argument-missing", "--cfg"),
    ],
)
def test_flags_that_mean_nothing_are_one_line(run: Runner, flags: list[str], key: str, named: str) -> None:
    ended = run(application(lambda config: None), *GIVEN, *flags)
    assert ended.key == key
    assert named in ended.line()


def test_no_run_folder_for_a_command_with_an_output(run: Runner) -> None:
    assert run(application(lambda config: None), *GIVEN).code == 0
    assert list(Path.cwd().iterdir()) == []


def test_the_user_has_configurations_of_his_own(run: Runner) -> None:
    Path("conf/optim").mkdir(parents=True)
    Path("conf/optim/mine.yaml").write_text("lr: 0.125\n")
    assert "lr: 0.125" in run(train.main, "--cfg", "job", "optim=mine", "-p", "optim").out


def test_a_run_folder_goes_when_nothing_came_of_it_but_not_with_anything_in_it(run: Runner) -> None:
    ended = run(train.main, "cache=nowhere")
    assert ended.key == "cache-empty"
    assert "nowhere" in ended.line()
    assert list(Path.cwd().iterdir()) == []
    Path("run/checkpoints").mkdir(parents=True)
    assert run(train.main, "cache=nowhere", "paths.run=run").key == "cache-empty"
    assert Path("run/checkpoints").is_dir()


def test_a_sweep_goes_on_past_a_job_that_fails_and_lists_it(run: Runner) -> None:
    seen: list[int] = []

    def task(config: DictConfig) -> None:
        seen.append(config.seed)
        if config.seed == 1:
            raise InputError("this seed\nis unlucky", "argument-invalid")
        if config.seed == 2:
            raise ZeroDivisionError("a bug")

    own = ("submission=a", "annotations=b", "output='c/${hydra:job.num}'", "hydra.sweep.dir=swept")
    ended = run(application(task), "-m", *own, "seed=0,1,2,3")
    assert ended.code == 1
    assert seen == [0, 1, 2, 3]
    headline, first, second = ended.error.splitlines()[-3:]
    assert "2" in headline
    for line, job, why in ((first, 1, "this seed is unlucky"), (second, 2, "ZeroDivisionError: a bug")):
        assert f"job {job} (submission=" in line
        assert f"seed={job})" in line
        assert line.endswith(why)
    assert "Traceback" in ended.error
    assert "in task" in ended.error
    # What failed once need not fail again.
    assert run(application(lambda config: None), "-m", *own, "seed=0,1,2,3").error == ""
