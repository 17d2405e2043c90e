"""Helpers for runs that fill a cache in other processes."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np

from nodule_lightning.cache.replacing import LOCK
from nodule_lightning.preparation.prepare import PreparationSettings
from tests.chest import GRID, draw_chest, write_image

COARSE = PreparationSettings(spacing_mm=3.0)
FILL = """
import sys
from pathlib import Path
from nodule_lightning.preparation.filling import fill_cache
from nodule_lightning.preparation.layouts import Folder
from nodule_lightning.preparation.summary import summarise
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.preparation.page import write_preparation_page
if __name__ == "__main__":
    dataset, cache = Folder(sys.argv[1]), Path(sys.argv[2])
    results = fill_cache(dataset, cache, PreparationSettings(spacing_mm=3.0), workers=2)
    write_preparation_page(cache, summarise(cache, dataset, results).failed)
"""


def write_scans(root: Path, count: int) -> Path:
    chest = draw_chest()
    for index in range(count):
        hu = chest.hu + np.random.default_rng(index).integers(-9, 9, chest.hu.shape).astype(np.int16)
        write_image(root / f"scan-{index}.mhd", hu, GRID)
    return root


def digest(cache: Path) -> dict[str, str]:
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    return {path.relative_to(cache).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def finish(run: "subprocess.Popen[str]") -> None:
    out, error = run.communicate(timeout=200)
    assert run.returncode == 0, out + error


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", script, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8")
