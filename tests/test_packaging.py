"""What is shipped: every package and every YAML file, and a wheel that works by itself."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = ("nodule_lightning", "hydra_plugins", "conf", "pyproject.toml", "README.md", "LICENSE")


def test_the_package_list_is_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = [
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for name in ("nodule_lightning", "hydra_plugins")
        for path in (ROOT / name).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted([*found, "nodule_lightning.conf"])
    folders = {path.parent for path in (ROOT / "nodule_lightning").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it where nothing else of this project is; the dependencies are only looked at."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True)
    # A folder named in a .pth file is searched, but its own .pth files, the editable install's among them, are not.
    [packages] = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin"


@pytest.mark.slow
def test_the_wheel_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    command = [str(installed / "nodule-train"), "--cfg", "job", "experiment=demo"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert "_target_: nodule_lightning.training.module.NoduleDetector" in ended.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_yaml_file(installed: Path, tmp_path: Path) -> None:
    code = "import nodule_lightning, nodule_lightning.conf as c; print(nodule_lightning.__path__[0], c.__path__[0])"
    command = [str(installed / "python"), "-c", code]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    package, conf = (Path(text) for text in ended.stdout.split())
    assert installed.parent in package.parents
    assert installed.parent in conf.parents
    for shipped, ours, pattern in ((conf, ROOT / "conf", "*.yaml"), (package, ROOT / "nodule_lightning", "*.py")):
        there = {path.relative_to(shipped) for path in shipped.rglob(pattern)}
        assert {path.relative_to(ours) for path in ours.rglob(pattern) if "local" not in path.parts} <= there
    assert (package / "py.typed").exists()
