"""Run commands inside the test's process, and make what they need."""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module

from nodule_lightning.cache.entries import write_entry
from nodule_lightning.config.instantiate import instantiate, plain
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.structures import Findings, Labels
from tests.chest import NODULE_XYZ_MM, draw_chest

TINY = PreparationSettings(spacing_mm=4.0)


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    error: str

    def _last_line(self) -> str:
        assert self.code == 2, (self.code, self.error)
        lines = self.error.splitlines()
        assert len(lines) == 1, self.error
        assert lines[0].startswith("error: ")
        return lines[0]

    def line(self) -> str:
        """Give the one line of an input error without its key, or fail."""
        return re.sub(r" \[[a-z-]+\]$", "", self._last_line())

    @property
    def key(self) -> str:
        """Give the key of an input error, which ends its line in brackets, or fail."""
        found = re.search(r" \[([a-z-]+)\]$", self._last_line())
        assert found, self.error
        return found[1]

    def failed_job(self) -> str:
        """Give what the end of a sweep says of the one job that failed, or fail."""
        assert self.code == 1, (self.code, self.error)
        headline, line = self.error.splitlines()[-2:]
        assert headline == "error: 1 of the sweep's jobs failed:"
        return line


class Runner:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capfd = capfd

    def __call__(self, main: Callable[[], None], *arguments: str) -> Ended:
        self.monkeypatch.setattr(sys, "argv", ["nodule", *arguments])
        self.monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        self.capfd.readouterr()
        code = 0
        with _untouched_logging():
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, error = self.capfd.readouterr()
        return Ended(code, out, error)


@contextmanager
def _untouched_logging() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        yield
    finally:
        for handler in set(logging.root.handlers) - set(handlers):
            handler.close()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


def write_cache(folder: Path, scan_ids: list[str]) -> Path:
    entry = prepare_scan(draw_chest(), TINY)
    nodules = Findings(NODULE_XYZ_MM[None], np.array([12.0]))
    for place, scan_id in enumerate(scan_ids):
        write_entry(folder, replace(entry, scan_id=scan_id, labels=Labels(str(place), nodules)))
    return folder


def recipe(*overrides: str) -> dict[str, Any]:
    return deepcopy(_composed_recipe(*overrides))


# Many tests write many checkpoints of one recipe, and composing it takes a third of a second.
@cache
def _composed_recipe(*overrides: str) -> dict[str, Any]:
    chosen = overrides or ("model=res_unet_narrow", "+model.anchors.spacing_mm=4.0")
    with warnings.catch_warnings(), initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        # Not every test's folder has a conf/ of the user's.
        warnings.filterwarnings("ignore", message="provider=hydra.searchpath")
        config = compose("train", [*chosen, "cache=unused"])
    return plain(config.recipe)


def write_checkpoint(path: Path, **changes: object) -> Path:
    """Write a checkpoint with random weights, as training writes it."""
    return _write(path, recipe(), **changes)


def write_reducer_checkpoint(path: Path, **changes: object) -> Path:
    """Write a second stage's checkpoint with random weights, as training writes it."""
    return _write(path, recipe("task=reduction", "candidates=unused", "+classifier.spacing_mm=4.0"), **changes)


def _write(path: Path, model: dict[str, Any], **changes: object) -> Path:
    torch.manual_seed(0)
    network = instantiate(model["network"])
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"version": "0", "model": model, "preparation": TINY.to_dict()}
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, "nodule_lightning": about, **changes}, path)
    return path
