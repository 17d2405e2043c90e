"""The device that a search runs on, chosen by name."""

import torch

from nodule_lightning.errors import InputError


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device of a name; `auto` is the GPU, or the CPU where there is none.

    GPUs are counted, not used: a process that starts others for its GPUs must not take memory on the first one.

    Args:
        name: auto, cpu, cuda or cuda:N, or any device of torch.

    Raises:
        InputError: there is no such name, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_known = isinstance(name, torch.device) or (isinstance(name, str) and name.partition(":")[0] in ("cpu", "cuda"))
    if not is_known:
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, not {name!r}", "argument-invalid")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device={name} cannot be used here: {error}", "device-unavailable") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device={name} cannot be used here: torch sees {torch.cuda.device_count()} GPUs", "device-unavailable"
        )
    return device
