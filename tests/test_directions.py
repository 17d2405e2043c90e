"""Direction of imports: the commands import the library; the library imports neither the commands nor Hydra."""

import ast
from collections.abc import Iterator
from pathlib import Path

import nodule_lightning

PACKAGE = Path(nodule_lightning.__file__).parent
EDGE = ("nodule_lightning.cli", "hydra", "omegaconf")


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_library_imports_neither_the_commands_nor_hydra() -> None:
    library = [path for path in PACKAGE.rglob("*.py") if "cli" not in path.relative_to(PACKAGE).parts]
    assert len(library) > 40
    crossings = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in library
        for name in imported_names(path)
        if f"{name}.".startswith(tuple(f"{edge}." for edge in EDGE))
    ]
    assert crossings == []
