"""Make any path safe to stand on the command line of a Hydra app."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

_ARGUMENT = re.compile(r"(?P<key>\+{0,2}[\w.]+)=(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r"""(?P<quote>['"])(?:\\.|(?!(?P=quote))[^\\])*(?P=quote)""", re.DOTALL)
# OmegaConf reads an odd number of backslashes before ${ as an escape, and halves them.
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def quote_path_arguments(arguments: Sequence[str], path_keys: Sequence[str]) -> list[str]:
    r"""Quote the paths among the arguments, so that Hydra reads them as the shell handed them over.

    Left as they are: what is quoted already (there Hydra's own rules hold, interpolations included) and `null`, unless
    a file of just that name exists.

    Args:
        arguments: the command line without the program's name.
        path_keys: the keys whose values are paths, `data.root` for example.

    >>> quote_path_arguments(["input=/tmp/My CT (1)/肺", "seed=3", "-m"], ["input"])
    ["input='/tmp/My CT (1)/肺'", 'seed=3', '-m']
    """
    return [_quote(argument, path_keys) for argument in arguments]


def escape_interpolations(text: str) -> str:
    r"""Mark each `${` of a text as nothing but text.

    >>> escape_interpolations("/data/${year}")
    '/data/\\${year}'
    """
    return _INTERPOLATION.sub(lambda found: found[1] * 2 + r"\${", text)


def _quote(argument: str, path_keys: Sequence[str]) -> str:
    match = _ARGUMENT.fullmatch(argument)
    if match is None or match["key"].lstrip("+") not in path_keys:
        return argument
    # Hydra takes the bare sign for a value that is still to be given.
    text = "./???" if match["value"] == "???" else match["value"]
    if _has_own_syntax(text) and not _exists(text):
        return argument
    return f"{match['key']}={QuotedString(escape_interpolations(text), Quote.single).with_quotes()}"


def _has_own_syntax(text: str) -> bool:
    return text == "null" or _QUOTED.fullmatch(text) is not None


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
