"""Direction of imports: the edge (commands, configurations, training runs) imports the library, never the reverse."""

import ast
from collections.abc import Iterator
from pathlib import Path

import nodule_lightning

PACKAGE = Path(nodule_lightning.__file__).parent
# The rooms that know Hydra: the commands, the only place that instantiates configurations, and runs of training.
EDGE_ROOMS = ("cli", "config", "training")
EDGE = (*(f"nodule_lightning.{room}" for room in EDGE_ROOMS), "hydra", "omegaconf")


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_library_imports_neither_the_edge_nor_hydra() -> None:
    library = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in EDGE_ROOMS]
    assert len(library) > 40
    crossings = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in library
        for name in imported_names(path)
        if f"{name}.".startswith(tuple(f"{edge}." for edge in EDGE))
    ]
    assert crossings == []
