"""Typed access to the values of a command that no constructor checks."""

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
    """Read the seed, which must lie in 0..2**32 - 1, the range that every generator accepts.

    Raises:
        InputError: it is not a whole number in this range.
    """
    return whole_number(config, "seed", most=LARGEST_SEED)


def workers(config: Values) -> int:
    """Read the number of processes; null means one per core.

    Raises:
        InputError: it is not a whole number of at least 1.
    """
    return (os.cpu_count() or 1) if config["workers"] is None else whole_number(config, "workers", least=1)


def flag(config: Values, key: str) -> bool:
    """Read a boolean.

    Raises:
        InputError: it is something else, such as a string, which Python would treat as true.
    """
    value = config[key]
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false, not {value!r}", "argument-invalid")
    return value


def optional_number(config: Values, key: str) -> float | None:
    """Read a finite number; None for null.

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
    """Read a path; None for null."""
    return None if config[key] is None else Path(config[key])


def paths(config: Values, key: str) -> list[Path]:
    """Read one path or a list of paths; empty for null.

    Raises:
        InputError: an item is not a path.
    """
    value = config[key]
    if value is None:
        return []
    items = list(value) if isinstance(value, (ListConfig, list)) else [value]
    if wrong := [item for item in items if not isinstance(item, str | int | float)]:
        raise InputError(f"{key} must be a path or a list of paths, and {wrong[0]} is neither", "argument-invalid")
    return [Path(str(item)) for item in items]


def names(config: Values, key: str) -> list[object]:
    """Read one name or a list of names; empty for null."""
    value = config[key]
    if value is None:
        return []
    return list(value) if isinstance(value, (ListConfig, list)) else [value]


def protocol(config: Values) -> "Protocol":
    """Read the challenge whose scoring rules apply.

    Raises:
        InputError: the challenge is unknown.
    """
    from nodule_lightning.metrics.functional import Protocol

    try:
        return Protocol(config["protocol"])
    except ValueError:
        known = " or ".join(Protocol)
        raise InputError(f"protocol must be {known}, not {config['protocol']!r}", "argument-invalid") from None
