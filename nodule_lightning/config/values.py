"""Read the plain values of a command that no constructor checks."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from nodule_lightning.errors import InputError

if TYPE_CHECKING:
    from nodule_lightning.metrics.functional import Protocol

LARGEST_SEED = 2**32 - 1


def whole_number(config: DictConfig, key: str, least: int = 0, most: int | None = None) -> int:
    """Give a whole number.

    Raises:
        InputError: it is something else, or lies outside the bounds.
    """
    value = config[key]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{key} must be a whole number {bounds}, not {value!r}")
    return int(value)


def seed(config: DictConfig) -> int:
    """Give the seed, as large as every generator takes it.

    Raises:
        InputError: it is no whole number in those bounds.
    """
    return whole_number(config, "seed", most=LARGEST_SEED)


def workers(config: DictConfig) -> int:
    """Give the number of processes; one a core where none is said.

    Raises:
        InputError: it is no whole number of at least 1.
    """
    return (os.cpu_count() or 1) if config.workers is None else whole_number(config, "workers", least=1)


def flag(config: DictConfig, key: str) -> bool:
    """Give a truth value.

    Raises:
        InputError: it is something else, a text for example, all of which Python takes for true.
    """
    value = config[key]
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false, not {value!r}")
    return value


def optional_number(config: DictConfig, key: str) -> float | None:
    """Give a number, or None where it is null.

    Raises:
        InputError: it is something else.
    """
    value = config[key]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{key} must be a number or null, not {value!r}")
    return float(value)


def optional_path(config: DictConfig, key: str) -> Path | None:
    """Give a path, or None where it is null."""
    return None if config[key] is None else Path(config[key])


def paths(config: DictConfig, key: str) -> list[Path]:
    """Give the path or the paths of a key, none where it is null.

    Raises:
        InputError: a list in a list, or something else that is no path.
    """
    value = config[key]
    if value is None:
        return []
    items = list(value) if isinstance(value, ListConfig) else [value]
    if wrong := [item for item in items if not isinstance(item, str | int | float)]:
        raise InputError(f"{key} must be a path or a list of paths, and {wrong[0]} is neither")
    return [Path(str(item)) for item in items]


def names(config: DictConfig, key: str) -> list[object]:
    """Give the name or the names of a key, none where it is null."""
    value = config[key]
    if value is None:
        return []
    return list(value) if isinstance(value, ListConfig) else [value]


def protocol(config: DictConfig) -> "Protocol":
    """Give the challenge whose rules hold.

    Raises:
        InputError: it is none that is known.
    """
    from nodule_lightning.metrics.functional import Protocol

    try:
        return Protocol(config.protocol)
    except ValueError:
        known = " or ".join(Protocol)
        raise InputError(f"protocol must be {known}, not {config.protocol!r}") from None
