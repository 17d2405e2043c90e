"""Which precision is quick on which device, and how to compute in it."""

from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any

import torch


class Precision(StrEnum):
    """What a search computes in: `AUTO` is bf16 where the device is quick in it, else fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


def is_quick_in_bf16(on_gpu: bool) -> bool:
    """Tell whether this machine's GPUs, or its CPU, gain by bf16."""
    if on_gpu:
        return bool(torch.cuda.is_bf16_supported())
    # A CPU with AMX tiles is twice as quick in bf16; one without emulates it and can be a hundred times slower.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


def chosen_precision(device: torch.device, precision: Precision) -> Precision:
    """Say what `AUTO` means on a device."""
    if precision is not Precision.AUTO:
        return precision
    return Precision.BF16 if is_quick_in_bf16(device.type == "cuda") else Precision.FP32


def computing_in(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Give a context in which networks on the device compute so; convolutions in bf16, what needs more in fp32."""
    in_bf16 = chosen_precision(device, precision) is Precision.BF16
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16)
