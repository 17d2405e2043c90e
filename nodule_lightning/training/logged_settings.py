"""The settings that a run logs: everything that could explain its score, but no paths."""

import re
from collections.abc import Mapping
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf

import nodule_lightning
from nodule_lightning.config.instantiate import plain

# Only these callbacks change the trained weights.
CALLBACKS: Final = ("average", "scan_mining")
# These are logged with another group already, or name files of the raw scans.
REDUNDANT_KEYS: Final = {
    "datamodule": ("curriculum",),
    "data": ("layout", "root", "annotations", "excluded", "subsets"),
}


_REFERENCE: Final = re.compile(r"\$\{(\w+)")


def referred(node: DictConfig) -> set[str]:
    """Return the top-level keys that the interpolations of a node refer to."""
    return set(_REFERENCE.findall(OmegaConf.to_yaml(node, resolve=False)))


def groups_in_use(config: DictConfig) -> set[str]:
    """Return the top-level keys from which the data module and the LightningModule of this task are built."""
    return referred(config.datamodule) | referred(config.module)


def settings_to_log(config: DictConfig, choices: Mapping[str, Any], trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Gather a run's settings as plain values, without paths.

    A path may contain a patient's name, and a logger may send its data to another machine.

    Args:
        config: composed configuration of `nodule-train`.
        choices: the chosen option of each config group.
        trainer: the trainer's arguments.
    """
    used = groups_in_use(config)
    names = ["datamodule", *(name for name in config if name in used and isinstance(config[name], DictConfig))]
    groups = {str(name): plain(config[name]) for name in names} | {"trainer": dict(trainer)}
    for name, keys in REDUNDANT_KEYS.items():
        groups[name] = {key: value for key, value in groups[name].items() if key not in keys}
    callbacks = {name: plain(config.callbacks[name]) for name in CALLBACKS if config.callbacks.get(name) is not None}
    values = {
        "version": nodule_lightning.__version__,
        "name": config.name,
        "seed": config.seed,
        "choices": {group: name for group, name in choices.items() if not group.startswith("hydra/")},
        **groups,
        "callbacks": callbacks,
    }
    return without_paths(values)


def without_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop, at any depth, entries whose name or value is that of a path.

    >>> without_paths({"lr": 0.1, "cache": "a", "log_dir": None, "more": [{"file": "a/b", "edges_mm": [5, 7]}, "c/d"]})
    {'lr': 0.1, 'more': [{'edges_mm': [5, 7]}]}
    """
    return {
        key: _plain_without_paths(value)
        for key, value in values.items()
        if not (_names_a_path(key) or _is_a_path(value))
    }


def _plain_without_paths(value: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, Mapping):
        return without_paths(value)
    if isinstance(value, list):
        return [_plain_without_paths(item) for item in value if not _is_a_path(item)]
    return value


def _names_a_path(key: str) -> bool:
    return key in ("cache", "candidates", "root", "path") or key.endswith(("dir", "dirpath", "_path"))


def _is_a_path(value: Any) -> bool:  # noqa: ANN401 - any plain value
    return isinstance(value, str) and ("/" in value or "\\" in value)
