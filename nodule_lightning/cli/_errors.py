"""One-line messages for errors of Hydra's composition and of tasks."""

import errno
import re
from collections.abc import Iterator
from typing import Final

from hydra import compose, initialize_config_module
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from nodule_lightning.config.signatures import nearest, parameters
from nodule_lightning.errors import ErrorKey, IncompleteError, InputError

# Groups that Hydra's plugins extend.
PLUGGED_IN = ("hydra/launcher", "hydra/sweeper")
_UNKNOWN_KEY = re.compile(r"Could not override '([^']*)'")

# System errors that mean that a path cannot be written to.
_NOT_WRITABLE: Final = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip


def explain(error: Exception, config_name: str) -> tuple[str, ErrorKey]:
    """Return a one-line message with the cure for a composition error, and its error key.

    Args:
        error: the exception from the composition.
        config_name: the primary configuration, whose keys are suggested for a misspelt one.
    """
    if isinstance(error, OverrideParseException):
        line = f"cannot read the argument {error.override!r}: write key=VALUE, and quote a value with special signs"
        return line, "argument-invalid"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        cure = "; pip install 'nodule_lightning[sweeps]' brings more" if group in PLUGGED_IN else ""
        return f"{group} has no {name!r}{_choices(name, list(error.options or []))}{cure}", "argument-unknown"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}; choose another folder", "output-refused"
    if unknown := _UNKNOWN_KEY.search(str(error)):
        return _explain_unknown(unknown[1], config_name), "argument-unknown"
    return one_line(f"{error} {error.__cause__ or ''}"), "argument-invalid"


def user_message(error: Exception) -> str | None:
    """Return the message of a task's error that the user can fix; None if the error is a bug."""
    if isinstance(error, (IncompleteError, InputError, InterpolationResolutionError)):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None and error.errno in _NOT_WRITABLE:
        return f"{error.filename} cannot be written: {error.strerror}"
    return None


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
    return f"there is no key {key!r}{nearest(key, [*groups, *_keys(OmegaConf.to_container(config)), *defaults])}"


def _keys(values: object, prefix: str = "") -> Iterator[str]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield f"{prefix}{name}"
            yield from _keys(value, f"{prefix}{name}.")
