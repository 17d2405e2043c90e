"""Say in one line what is wrong with a command line that Hydra could not turn into a configuration."""

import difflib
import re
from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_module
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from nodule_lightning.config.signatures import parameters

# What Hydra has more of where its plugins are installed.
PLUGGED_IN = ("hydra/launcher", "hydra/sweeper")
_UNKNOWN_KEY = re.compile(r"Could not override '([^']*)'")


def explain(error: Exception, config_name: str) -> str:
    """Turn an error of the composition into one line that names the cure.

    Args:
        error: what the composition raised.
        config_name: the primary configuration, whose keys are the names that could have been meant.
    """
    if isinstance(error, OverrideParseException):
        return f"cannot read the argument {error.override!r}: write key=VALUE, and quote a value with special signs"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        cure = "; pip install 'nodule_lightning[sweeps]' brings more" if group in PLUGGED_IN else ""
        return f"{group} has no {name!r}{_choices(name, list(error.options or []))}{cure}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}; choose another folder"
    if unknown := _UNKNOWN_KEY.search(str(error)):
        return _explain_unknown(unknown[1], config_name)
    return one_line(f"{error} {error.__cause__ or ''}")


def nearest(name: str, known: Sequence[str]) -> str:
    """Give the known name that was probably meant, as the end of a sentence; empty where none comes near.

    >>> nearest("optim.lrr", ["optim.lr", "seed"])
    '; did you mean optim.lr?'
    """
    # A right last part under a wrong parent comes first: `lr` for `optim.lr`.
    leaf = name.rpartition(".")[2]
    matches = [key for key in known if key.rpartition(".")[2] == leaf]
    matches += difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    matches += difflib.get_close_matches(leaf, [key for key in known if "." not in key], n=1, cutoff=0.6)
    if not matches:
        return ""
    return f"; did you mean {matches[0]}?"


def one_line(text: str) -> str:
    r"""Join the lines of a message.

    >>> one_line("first\n  second ")
    'first second'
    """
    return " ".join(text.split())


def _choices(name: str, options: list[str]) -> str:
    hint = nearest(name, options)
    return hint + f" (there are: {', '.join(options)})" if options else hint


def _explain_unknown(key: str, config_name: str) -> str:
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        config = compose(config_name, return_hydra_config=True)
    groups = [name for name in config.hydra.runtime.choices if not name.startswith("hydra/")]
    del config.hydra
    parent = key.rpartition(".")[0]
    target = OmegaConf.select(config, f"{parent}._target_") if parent else None
    defaults = [] if target is None else [f"{parent}.{name}" for name in parameters(str(target))]
    if key in defaults:
        return f"the configuration leaves {key} at its default; to set it, write +{key}=VALUE"
    return f"there is no key {key!r}{nearest(key, [*groups, *_keys(config), *defaults])}"


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in config:
        key = f"{prefix}{name!s}"
        yield key
        node = config._get_node(name)
        if isinstance(node, DictConfig) and OmegaConf.is_dict(node) and not node._is_none() and not node._is_missing():
            yield from _keys(node, f"{key}.")
