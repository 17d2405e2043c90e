"""Read and check the values of a command that no constructor checks."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import ListConfig

from nodule_lightning.errors import InputError

if TYPE_CHECKING:
    from nodule_lightning.metrics.functional import Protocol

# A composed configuration, or a part of one in plain values.
Values = Mapping[str, Any]

LARGEST_SEED = 2**32 - 1


def whole_number(config: Values, key: str, least: int = 0, most: int | None = None) -> int:
    """Read a whole number.

    Raises:
        InputError: it is something else, or lies outside the bounds.
    """
    value = config[key]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{key} must be a whole number {bounds}, not {value!r}", "argument-invalid")
    return int(value)


def seed(config: Values) -> int:
    """Read the seed, as large as every generator takes it.

    Raises:
        InputError: it is no whole number in those bounds.
    """
    return whole_number(config, "seed", most=LARGEST_SEED)


def workers(config: Values) -> int:
    """Read the number of processes; one a core where none is said.

    Raises:
        InputError: it is no whole number of at least 1.
    """
    return (os.cpu_count() or 1) if config["workers"] is None else whole_number(config, "workers", least=1)


def flag(config: Values, key: str) -> bool:
    """Read a truth value.

    Raises:
        InputError: it is something else, a text for example, all of which Python takes for true.
    """
    value = config[key]
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false, not {value!r}", "argument-invalid")
    return value


def optional_number(config: Values, key: str) -> float | None:
    """Read a number, or None where it is null.

    Raises:
        InputError: it is something else.
    """
    value = config[key]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{key} must be a number or null, not {value!r}", "argument-invalid")
    return float(value)


def optional_path(config: Values, key: str) -> Path | None:
    """Read a path, or None where it is null."""
    return None if config[key] is None else Path(config[key])


def paths(config: Values, key: str) -> list[Path]:
    """Read the path or the paths of a key, none where it is null.

    Raises:
        InputError: a list in a list, or something else that is no path.
    """
    value = config[key]
    if value is None:
        return []
    items = list(value) if isinstance(value, (ListConfig, list)) else [value]
    if wrong := [item for item in items if not isinstance(item, str | int | float)]:
        raise InputError(f"{key} must be a path or a list of paths, and {wrong[0]} is neither", "argument-invalid")
    return [Path(str(item)) for item in items]


def names(config: Values, key: str) -> list[object]:
    """Read the name or the names of a key, none where it is null."""
    value = config[key]
    if value is None:
        return []
    return list(value) if isinstance(value, (ListConfig, list)) else [value]


def protocol(config: Values) -> "Protocol":
    """Read the challenge whose rules hold.

    Raises:
        InputError: it is none that is known.
    """
    from nodule_lightning.metrics.functional import Protocol

    try:
        return Protocol(config["protocol"])
    except ValueError:
        known = " or ".join(Protocol)
        raise InputError(f"protocol must be {known}, not {config['protocol']!r}", "argument-invalid") from None
