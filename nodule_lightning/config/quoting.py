"""Quoting, so that any path can be given on the command line of a Hydra app."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

_ARGUMENT = re.compile(r"(?P<key>\+{0,2}[\w.]+)=(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r"""(?P<quote>['"])(?:\\.|(?!(?P=quote))[^\\])*(?P=quote)""", re.DOTALL)
_LIST = re.compile(r"\[(?P<items>.*)\]", re.DOTALL)
# A quoted item may contain commas. An empty list has no item, and a lone comma separates two empty ones.
_ITEM = re.compile(rf"(?:(?<=,)|^)(?P<item>\s*(?:{_QUOTED.pattern})\s*(?=,|$)|[^,]+|(?=,)|(?<=,)$)", re.DOTALL)
# OmegaConf reads an odd number of backslashes before ${ as an escape, and halves them.
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def quote_path_arguments(
    arguments: Sequence[str], path_keys: Sequence[str], list_keys: Sequence[str] = ()
) -> list[str]:
    r"""Quote the paths among the arguments, so that Hydra reads them literally.

    Values that are quoted already (Hydra's own rules apply, interpolations included) and `null` are left as they are,
    unless a file of exactly that name exists.

    Args:
        arguments: the command line without the program's name.
        path_keys: the keys whose values are paths, `data.root` for example.
        list_keys: those of them that accept several paths, `[a.csv,b.csv]`; a path with a comma must be quoted.

    >>> quote_path_arguments(["input=/tmp/My CT (1)/肺", "seed=3", "-m"], ["input"])
    ["input='/tmp/My CT (1)/肺'", 'seed=3', '-m']
    >>> quote_path_arguments(["input=[a 1.csv,'b,2.csv']"], ["input"], ["input"])
    ["input=['a 1.csv','b,2.csv']"]
    """
    return [_quote(argument, path_keys, list_keys) for argument in arguments]


def quoted(text: str) -> str:
    r"""Quote a text, so that Hydra reads it literally.

    >>> quoted("it's (1)")
    "'it\\'s (1)'"
    """
    return QuotedString(text, Quote.single).with_quotes()


def as_typed(arguments: Sequence[str], path_keys: Sequence[str]) -> list[str]:
    r"""Undo `quote_path_arguments`: return arguments as a user types them.

    >>> as_typed(["input='/tmp/My CT (1)/肺'", "root='null'", "name='a b'"], ["input", "root"])
    ['input=/tmp/My CT (1)/肺', "root='null'", "name='a b'"]
    """
    return [_as_typed(argument, path_keys) for argument in arguments]


def escape_interpolations(text: str) -> str:
    r"""Escape each `${` of a text.

    >>> escape_interpolations("/data/${year}")
    '/data/\\${year}'
    """
    return _INTERPOLATION.sub(lambda found: found[1] * 2 + r"\${", text)


def _as_typed(argument: str, path_keys: Sequence[str]) -> str:
    key, _, value = argument.partition("=")
    typed = f"{key}={value[1:-1]}"
    return typed if _QUOTED.fullmatch(value) and _quote(typed, path_keys, ()) == argument else argument


def _quote(argument: str, path_keys: Sequence[str], list_keys: Sequence[str]) -> str:
    match = _ARGUMENT.fullmatch(argument)
    if match is None or match["key"].lstrip("+") not in path_keys:
        return argument
    inside = _LIST.fullmatch(match["value"])
    if match["key"].lstrip("+") in list_keys and inside and not _exists(match["value"]):
        items = [item["item"].strip() for item in _ITEM.finditer(inside["items"])]
        return f"{match['key']}=[{','.join(map(_quote_path, items))}]"
    return f"{match['key']}={_quote_path(match['value'])}"


def _quote_path(text: str) -> str:
    # A bare ??? marks a missing value.
    text = "./???" if text == "???" else text
    if _has_own_syntax(text) and not _exists(text):
        return text
    return QuotedString(escape_interpolations(text), Quote.single).with_quotes()


def _has_own_syntax(text: str) -> bool:
    return text == "null" or _QUOTED.fullmatch(text) is not None


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
