"""Build objects from configuration: the only caller of `hydra.utils.instantiate`."""

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

# A group may be null, where a user says so: that is answered in one line.
Node = DictConfig | Mapping[str, Any] | None


def instantiate(config: Node) -> Any:  # noqa: ANN401 - the configuration says what it is
    """Build what a configuration describes, lists and dicts in it as plain ones.

    Raises:
        InputError: a `_target_` cannot be imported, does not know a key, or refuses a value.
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
        # A constructor knows no other way to refuse a value or to miss one.
        if isinstance(cause, (TypeError, ValueError)):
            raise InputError(
                f"a value of the configuration is refused: {cause} ({_place(error)})", "argument-invalid"
            ) from None
        raise


def instantiate_trusted(config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the configuration says what it is
    """Build from a configuration that came with a file, which could name any function of this machine.

    Raises:
        InputError: as `instantiate`, or a `_target_` is neither of this package nor of `torch.nn`.
    """
    for target, _ in targets(config):
        if not _is_trusted(target):
            raise InputError(
                f"the file asks to run {target}, which is no part of a detector; do not trust it", "file-unsafe"
            )
    return instantiate(config)


def as_written(overrides: object) -> list[str]:
    """Give a command line's overrides as they were written; reading Hydra's own list resolves interpolations."""
    written = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(written, list)
    return [str(override) for override in written]


def plain(config: Node) -> dict[str, Any]:
    """Give a configuration as plain dicts, lists and values, every interpolation resolved."""
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
    """Give what a group such as the callbacks is made of; one that is set to null is left out."""
    return [value for value in plain(config).values() if value is not None]


def targets(values: object) -> Iterator[tuple[str, dict[str, object]]]:
    """Give every `_target_` at any depth, with what stands beside it."""
    if isinstance(values, Mapping):
        if "_target_" in values:
            yield str(values["_target_"]), {str(key): values[key] for key in values if key not in _RESERVED}
        for value in values.values():
            yield from targets(value)
    elif isinstance(values, Sequence) and not isinstance(values, str):
        for value in values:
            yield from targets(value)


def check_keys(target: str, keys: set[str]) -> None:
    """Compare keys with the signature of what they are for.

    Raises:
        InputError: the target cannot be imported, or does not know a key; names the nearest right one.
    """
    if takes_any(target):
        return
    known = parameters(target)
    for key in sorted(keys - set(known)):
        raise InputError(f"{target} has no parameter {key!r}{nearest(key, known)}", "argument-unknown")


def check_types(target: str, values: Mapping[str, object]) -> None:
    """Compare plain values with the annotations of what they are for, partial objects included.

    Raises:
        InputError: a value has another type.
    """
    if refused := refused_values(target, values):
        raise InputError(f"{target}: {'; '.join(refused)}", "argument-invalid")


def _place(error: InstantiationException) -> str:
    """Give the target that Hydra was calling, from the first line of its message."""
    return str(error).splitlines()[0].rstrip(":")


def _is_trusted(target: str) -> bool:
    # The name alone says nothing: nodule_lightning.training.module.torch.hub.load leads out of the package.
    if not target.startswith(TRUSTED):
        return False
    found = imported(target)
    return inspect.isclass(found) and found.__module__.startswith(TRUSTED)


def _escaped(values: Any) -> Any:  # noqa: ANN401 - any plain value
    # Hydra reads interpolations again, twice; in resolved values `${` is only ever a part of a path.
    if isinstance(values, dict):
        return {key: _escaped(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_escaped(value) for value in values]
    return escape_interpolations(escape_interpolations(values)) if isinstance(values, str) else values
