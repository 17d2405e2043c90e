"""Read the plain values of a command that no constructor checks."""

import os

from omegaconf import DictConfig

from nodule_lightning.errors import InputError

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
