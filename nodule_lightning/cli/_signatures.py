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
    return list(inspect.signature(imported(target)).parameters)


def takes_any(target: str) -> bool:
    """Say whether a target has a `**kwargs`, so that no key can be called wrong."""
    signature = inspect.signature(imported(target))
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
