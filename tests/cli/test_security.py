"""Nothing that is read from the disk is run: no pickle, no eval, no shell, in the package and in what it is handed."""

import ast
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nodule_lightning.cache.entries import open_entry
from nodule_lightning.cli import predict, train
from nodule_lightning.errors import InputError
from tests.commands import Runner, write_cache

SOURCES = sorted((Path(__file__).parent.parent.parent / "nodule_lightning").rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
# The function, and the argument that makes it safe.
SAFE_ONLY_WITH = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "trainer.fit": ("weights_only", True),
}
NEVER = {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "torch.jit.load", "torch.hub.load"}


def dangers(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            # The name of the refusal may be known.
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "UnpicklingError")
        elif isinstance(node, ast.Call):
            yield from dangerous_call(node)


def dangerous_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
    if name in SAFE_ONLY_WITH:
        word, value = SAFE_ONLY_WITH[name]
        if given.get(word) is not value:
            yield f"{name} without {word}={value}"
    if name in RUNNERS | NEVER or name.rpartition(".")[2] == "load_from_checkpoint" or given.get("shell"):
        yield name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_package_runs_nothing_that_it_reads(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import load", "torch.load(path)", "torch.load(path, weights_only=False)",
        "np.load(path, mmap_mode='r')", "np.load(path, allow_pickle=True)", "yaml.load(text)",
        "eval(text)", "exec(text)",
        "subprocess.run(command, shell=True)", "os.system(command)", "NoduleDetector.load_from_checkpoint(path)",
        "trainer.fit(module, ckpt_path=last)",
    ],
)  # fmt: skip
def test_the_search_for_dangers_finds_them(source: str) -> None:
    assert list(dangers(source))


class Malicious:
    """Touch a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_malicious_checkpoint_is_refused_and_not_run(run: Runner, tmp_path: Path) -> None:
    cache, ran = write_cache(tmp_path / "cache", ["one", "two", "three"]), tmp_path / "it ran"
    pickled = tmp_path / "pickle.ckpt"
    pickled.write_bytes(pickle.dumps(Malicious(ran)))
    saved = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saved.parent.mkdir(parents=True)
    torch.save({"state_dict": {}, "nodule_lightning": {"model": {}, "preparation": {}, "more": Malicious(ran)}}, saved)
    for path in (pickled, saved):
        refused = run(predict.main, f"checkpoint={path}", f"input={cache}", "output=out")
        assert refused.key == "file-unsafe"
        assert str(path) in refused.line()
    resumed = run(
        train.main, f"cache={cache}", f"paths.run={tmp_path / 'run'}", "resume=true", "data.validation_fraction=0.5",
        "data.test_subsets=[0]", "model=res_unet_narrow", "+model.anchors.spacing_mm=4.0",
    )  # fmt: skip
    assert resumed.key == "file-unsafe"
    assert str(saved) in resumed.line()
    assert not ran.exists()
    # The file is as malicious as it claims: unpickled, it runs.
    pickle.loads(pickled.read_bytes())
    assert ran.exists()


@pytest.mark.parametrize("name", ["ct.npy", "lung.npy"])
def test_a_volume_of_objects_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    cache, ran = write_cache(tmp_path / "cache", ["one"]), tmp_path / "it ran"
    volume = cache / "scans" / "one" / name
    shape = np.load(volume).shape
    objects = np.empty(shape, dtype=object)
    objects[0, 0, 0] = Malicious(ran)
    np.save(volume, objects, allow_pickle=True)
    with pytest.raises(InputError) as error:
        open_entry(cache, "one")
    assert error.value.key == "file-damaged"
    assert "one" in str(error.value)
    assert not ran.exists()


def test_a_volume_of_another_type_is_refused(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", ["one"])
    volume = cache / "scans" / "one" / "ct.npy"
    np.save(volume, np.load(volume).astype(np.float32))
    with pytest.raises(InputError) as error:
        open_entry(cache, "one")
    assert error.value.key == "file-damaged"
    assert "uint8" in str(error.value)
