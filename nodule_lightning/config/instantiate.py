"""Building objects from configurations; the only caller of `hydra.utils.instantiate`."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from nodule_lightning.config.quoting import escape_interpolations
from nodule_lightning.config.signatures import imported, nearest, parameters, refused_values, takes_any
from nodule_lightning.errors import InputError

TRUSTED = ("nodule_lightning.", "torch.nn.")
_RESERVED = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}

# None, because a user may set a group to null, which `plain` refuses.
Node = DictConfig | Mapping[str, Any] | None


def instantiate(config: Node) -> Any:  # noqa: ANN401 - the configuration says what it is
    """Build the object that a configuration describes, with plain lists and dicts inside.

    Raises:
        InputError: a `_target_` cannot be imported, has no parameter of a given name, or refuses a value.
    """
    values = plain(config)
    for target, given in targets(values):
        check_keys(target, set(given))
        check_types(target, given)
    try:
        return hydra.utils.instantiate(_escaped(values), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        # Constructors of other packages raise these for invalid or missing arguments.
        if isinstance(cause, (TypeError, ValueError)):
            raise InputError(
                f"a value of the configuration is refused: {cause} ({_place(error)})", "argument-invalid"
            ) from None
        raise


def instantiate_trusted(config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the configuration says what it is
    """Build the object that a configuration from a file describes, with trusted classes only.

    A file could name any function on this machine, so only classes of this package and of `torch.nn` are allowed.

    Raises:
        InputError: as `instantiate`, or a `_target_` is not allowed.
    """
    for target, _ in targets(config):
        if not _is_trusted(target):
            raise InputError(
                f"the file asks to run {target}, which is no part of a detector; do not trust it", "file-unsafe"
            )
    return instantiate(config)


def as_written(overrides: object) -> list[str]:
    """Return overrides as typed, without resolving the interpolations in them."""
    written = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(written, list)
    return [str(override) for override in written]


def plain(config: Node) -> dict[str, Any]:
    """Return a configuration as plain dicts, lists and values, with all interpolations resolved.

    Raises:
        InputError: the configuration is not a group of values, such as a group that was set to null.
    """
    if not isinstance(config, Mapping):
        raise InputError(
            f"{config!r} stands where a group of values is needed; leave that argument out", "argument-invalid"
        )
    if not isinstance(config, DictConfig):
        return dict(config)
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def members(config: Node) -> list[Any]:
    """Return the members of a group such as `callbacks`, without those set to null."""
    return [value for value in plain(config).values() if value is not None]


def targets(values: object) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield every `_target_` at any depth, with its arguments."""
    if isinstance(values, Mapping):
        if "_target_" in values:
            yield str(values["_target_"]), {str(key): values[key] for key in values if key not in _RESERVED}
        for value in values.values():
            yield from targets(value)
    elif isinstance(values, Sequence) and not isinstance(values, str):
        for value in values:
            yield from targets(value)


def check_keys(target: str, keys: set[str]) -> None:
    """Check keys against the parameters of a target.

    Raises:
        InputError: the target cannot be imported, or has no such parameter; the message suggests the nearest one.
    """
    if takes_any(target):
        return
    known = parameters(target)
    for key in sorted(keys - set(known)):
        raise InputError(f"{target} has no parameter {key!r}{nearest(key, known)}", "argument-unknown")


def check_types(target: str, values: Mapping[str, object]) -> None:
    """Check plain values against the annotations of a target, also for targets that are built partially.

    Raises:
        InputError: a value has the wrong type.
    """
    if refused := refused_values(target, values):
        raise InputError(f"{target}: {'; '.join(refused)}", "argument-invalid")


def _place(error: InstantiationException) -> str:
    """Return the target that Hydra was calling, which is the first line of its message."""
    return str(error).splitlines()[0].rstrip(":")


def _is_trusted(target: str) -> bool:
    # The prefix alone is not enough: nodule_lightning.training.module.torch.hub.load leads out of the package.
    if not target.startswith(TRUSTED):
        return False
    found = imported(target)
    return inspect.isclass(found) and found.__module__.startswith(TRUSTED)


def _escaped(values: Any) -> Any:  # noqa: ANN401 - any plain value
    # Hydra resolves interpolations twice more, but in resolved values `${` is always literal text of a path.
    if isinstance(values, dict):
        return {key: _escaped(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_escaped(value) for value in values]
    return escape_interpolations(escape_interpolations(values)) if isinstance(values, str) else values
