"""Every network of conf/model, built as `nodule-train model=NAME` builds it."""

import warnings
from copy import deepcopy
from functools import cache
from pathlib import Path

import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.models.heads import DetectionNetwork

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def composed(name: str, *overrides: str) -> DictConfig:
    return deepcopy(_composed(name, *overrides))


@cache
def _composed(name: str, *overrides: str) -> DictConfig:
    with warnings.catch_warnings(), initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        # Not every test's folder has a conf/ of the user's.
        warnings.filterwarnings("ignore", message="provider=hydra.searchpath")
        return compose("train", [f"model={name}", "cache=unused", *overrides])


def built(name: str) -> DetectionNetwork:
    torch.manual_seed(0)
    network = instantiate(composed(name).model)
    assert isinstance(network, DetectionNetwork)
    return network
