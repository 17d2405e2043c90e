"""Choose between bf16 and fp32 for a device, and run networks in the chosen precision."""

from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any

import torch

from nodule_lightning.errors import InputError


class Precision(StrEnum):
    """The number format of a search: `AUTO` is bf16 where the device is fast in it, else fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


def parse_precision(name: str) -> Precision:
    """Return the precision of a name.

    Raises:
        InputError: there is no such precision.
    """
    try:
        return Precision(name)
    except ValueError:
        raise InputError(f"precision must be {', '.join(Precision)}, not {name!r}", "argument-invalid") from None


def is_quick_in_bf16(on_gpu: bool) -> bool:
    """Tell whether this machine's GPUs, or its CPU, are faster in bf16 than in fp32."""
    if on_gpu:
        return bool(torch.cuda.is_bf16_supported())
    # A CPU with AMX tiles is twice as fast in bf16; one without emulates it and can be a hundred times slower.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


def chosen_precision(device: torch.device, precision: Precision) -> Precision:
    """Replace `AUTO` by the precision that it stands for on a device."""
    if precision is not Precision.AUTO:
        return precision
    return Precision.BF16 if is_quick_in_bf16(device.type == "cuda") else Precision.FP32


def computing_in(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return a context in which networks on the device run in this precision.

    In bf16 autocast is on: convolutions run in bf16, and operations that need more stay in fp32.
    """
    in_bf16 = chosen_precision(device, precision) is Precision.BF16
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16)
