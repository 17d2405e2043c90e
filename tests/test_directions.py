"""Direction of imports: each room imports only rooms below it, and only the edge knows Hydra."""

import ast
from collections.abc import Iterator
from pathlib import Path

import nodule_lightning

PACKAGE = Path(nodule_lightning.__file__).parent
# From the ground up. An arrow that runs back up would make two rooms one.
ROOMS = (
    "errors", "geometry", "structures", "resampling", "boxes", "io", "metrics", "lungs", "detection", "models",
    "losses", "cache", "phantom", "data", "report", "preparation", "search", "evaluation", "ensemble", "config",
    "training", "cli", "api", "__init__",
)  # fmt: skip
# The rooms that know Hydra and OmegaConf.
EDGE = ("config", "training", "cli")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module}"


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_no_room_imports_one_above_it() -> None:
    paths = list(PACKAGE.rglob("*.py"))
    assert {room(path) for path in paths} == set(ROOMS)
    crossings = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in paths
        for name in imported(path)
        if name.startswith("nodule_lightning.") and ROOMS.index(name.split(".")[1]) > ROOMS.index(room(path))
    ]
    assert [crossing for crossing in crossings if not crossing.startswith("__init__.py")] == []


def test_only_the_edge_knows_hydra() -> None:
    crossings = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        if room(path) not in EDGE
        for name in imported(path)
        if name.split(".")[0] in {"hydra", "omegaconf"}
    ]
    assert crossings == []
