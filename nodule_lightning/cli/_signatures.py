"""What the targets of a configuration can be told."""

import inspect
from collections.abc import Callable
from typing import Any

import hydra.utils

from nodule_lightning.errors import InputError


def imported(target: str) -> Callable[..., Any]:
    """Import what a `_target_` names.

    Raises:
        InputError: there is no such thing.
    """
    try:
        found: Callable[..., Any] = hydra.utils.get_object(target)
    except (ImportError, ValueError) as error:
        raise InputError(f"_target_: {target} cannot be imported: {error}") from None
    return found


def parameters(target: str) -> list[str]:
    """Name the parameters of a target.

    >>> parameters("fractions.Fraction")
    ['numerator', 'denominator', '_normalize']

    Raises:
        InputError: there is no such target.
    """
    return [] if (signature := _signature(target)) is None else list(signature.parameters)


def takes_any(target: str) -> bool:
    """Say whether a target takes any key: it has a `**kwargs`, or is built in and does not tell."""
    if (signature := _signature(target)) is None:
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def _signature(target: str) -> inspect.Signature | None:
    found = imported(target)
    try:
        return inspect.signature(found)
    except ValueError:
        return None
