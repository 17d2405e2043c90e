"""The device that a search runs on, chosen by name."""

import torch

from nodule_lightning.errors import InputError


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device of a name; `auto` is the GPU, or the CPU where there is none.

    Args:
        name: auto, cpu, cuda or cuda:N, or any device of torch.

    Raises:
        InputError: there is no such name, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(name, torch.device) and name.partition(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, not {name!r}", "argument-invalid")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={name} cannot be used here: {error}", "device-unavailable") from None
    return device
