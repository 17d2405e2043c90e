"""Signatures of the targets in a configuration: parameter names and types."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import hydra.utils

from nodule_lightning.errors import InputError


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a suggestion for a misspelt name, as the end of a sentence; empty if no known name is close.

    >>> nearest("optim.lrr", ["optim.lr", "seed"])
    '; did you mean optim.lr?'
    """
    # A correct last part under a wrong parent ranks first: `lr` for `optim.lr`.
    leaf = name.rpartition(".")[2]
    matches = [key for key in known if key.rpartition(".")[2] == leaf]
    matches += difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    matches += difflib.get_close_matches(leaf, [key for key in known if "." not in key], n=1, cutoff=0.6)
    if not matches:
        return ""
    return f"; did you mean {matches[0]}?"


def imported(target: str) -> Callable[..., Any]:
    """Import the object that a `_target_` names.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        found: Callable[..., Any] = hydra.utils.get_object(target)
    except (ImportError, ValueError) as error:
        raise InputError(f"_target_: {target} cannot be imported: {error}", "argument-unknown") from None
    return found


def parameters(target: str) -> list[str]:
    """Return the parameter names of a target; empty if it has no signature.

    >>> parameters("fractions.Fraction")
    ['numerator', 'denominator', '_normalize']

    Raises:
        InputError: the target cannot be imported.
    """
    return [] if (signature := _signature(target)) is None else list(signature.parameters)


def takes_any(target: str) -> bool:
    """Check whether a target accepts any key: it has `**kwargs`, or is a builtin without a signature."""
    if (signature := _signature(target)) is None:
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def refused_values(target: str, values: Mapping[str, object]) -> list[str]:
    """Return a message for each plain value whose type contradicts the annotation of its parameter.

    Only numbers, strings, booleans and None are checked. A string is accepted for a path, and an integer for a float.
    Values of parameters without a plain annotation pass.

    >>> refused_values("nodule_lightning.detection.anchors.AnchorGrid", {"stride": "x", "spacing_mm": 1})
    ["stride must be int, not 'x'"]
    """
    signature = _signature(target)
    known = {} if signature is None else signature.parameters
    return [
        f"{key} must be {inspect.formatannotation(known[key].annotation)}, not {value!r}"
        for key, value in values.items()
        if key in known and not _fits(value, known[key].annotation)
    ]


def _fits(value: object, annotation: Any) -> bool:  # noqa: ANN401 - an annotation has no narrower type
    if not isinstance(value, (bool, int, float, str, type(None))) or isinstance(annotation, str):
        return True
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in get_args(annotation))
    wanted = origin or (type(None) if annotation is None else annotation)
    if wanted in (inspect.Parameter.empty, object, Any) or not isinstance(wanted, type):
        return True
    return _is_a(value, wanted)


def _is_a(value: object, wanted: type) -> bool:
    if isinstance(value, bool):
        return wanted is bool
    if wanted is float:
        return isinstance(value, (int, float))
    try:
        return isinstance(value, str if wanted is Path else wanted)
    except TypeError:
        # isinstance does not work with most protocols.
        return True


def _signature(target: str) -> inspect.Signature | None:
    found = imported(target)
    try:
        return inspect.signature(found, eval_str=True)
    except (NameError, AttributeError, TypeError, SyntaxError):
        # A quoted annotation may name something that is imported for type checking only.
        return inspect.signature(found)
    except ValueError:
        return None
