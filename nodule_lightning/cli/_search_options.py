"""Options of `nodule-predict` for how scans are searched: device, memory, mirroring, precision."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from omegaconf import ListConfig

from nodule_lightning.config.values import Values, flag, optional_number, whole_number
from nodule_lightning.errors import InputError

if TYPE_CHECKING:
    import torch

    from nodule_lightning.search.inference import InferenceSettings
    from nodule_lightning.search.precision import Precision

DEFAULTS: Final = {
    "device": "auto",
    "devices": 1,
    "memory_gb": None,
    "mirror": False,
    "precision": "auto",
    "compile": False,
    "workers": None,
}
"""The defaults in `conf/predict.yaml`."""

# One process prepares scans too slowly for a GPU; during a search on the CPU, more would compete for its cores.
_MOST_WORKERS_BESIDE_GPU = 4


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How scans are searched.

    Attributes:
        device: device of the network; with several devices, their type.
        devices: number of devices that divide the scans.
        memory_gb: memory limit on the device; None for a share of the free memory.
        mirror: axes (0, 1, 2 for z, y, x) along which each scan is also searched mirrored.
        precision: of the network.
        compiled: whether the network is compiled first.
        workers: processes that prepare scans ahead; None to choose by device.
    """

    device: "torch.device"
    devices: int
    memory_gb: float | None
    mirror: tuple[int, ...]
    precision: "Precision"
    compiled: bool
    workers: int | None

    def inference(self, learned: "InferenceSettings") -> "InferenceSettings":
        """Return a checkpoint's inference settings with the memory limit and mirroring of these options."""
        return replace(learned, memory_gb=self.memory_gb, mirror=self.mirror)

    def to_dict(self) -> dict[str, Any]:
        """Return the options that can affect results or speed as plain values, for JSON."""
        from nodule_lightning.search.precision import chosen_precision

        return {
            "device": str(self.device),
            "precision": chosen_precision(self.device, self.precision).value,
            "mirror": ["zyx"[axis] for axis in self.mirror],
            "compiled": self.compiled,
            # The limit decides on tiling, which changes results slightly.
            "memory_gb": self.memory_gb,
        }

    def processes(self, *, raw: bool) -> int:
        """Return the number of processes that read scans ahead: `workers`, or a default for the device.

        Args:
            raw: whether the scans must be prepared, not only read from a cache.
        """
        if self.workers is not None:
            return self.workers
        if self.device.type != "cuda":
            return int(raw)
        cores = (os.cpu_count() or 1) // self.devices
        return min(_MOST_WORKERS_BESIDE_GPU, max(cores - 1, 1)) if raw else 1


def search_options(config: Values) -> SearchOptions:
    """Read and check the options.

    Args:
        config: configuration of `nodule-predict`, or some of its settings; the others take their defaults.

    Raises:
        InputError: an option has an invalid value; the message names the option and the valid values.
    """
    from nodule_lightning.search.device import choose_device
    from nodule_lightning.search.precision import parse_precision

    values = {**DEFAULTS, **config}
    return SearchOptions(
        device=choose_device(values["device"]),
        devices=_devices(values),
        memory_gb=_memory_gb(values),
        mirror=_axes(values["mirror"]),
        precision=parse_precision(str(values["precision"])),
        compiled=flag(values, "compile"),
        workers=None if values["workers"] is None else whole_number(values, "workers"),
    )


def _devices(config: Values) -> int:
    import torch

    from nodule_lightning.search.device import choose_device

    devices, device = whole_number(config, "devices", least=1), choose_device(config["device"])
    if devices > 1 and device.index is not None:
        raise InputError(
            f"device={device} names one device; with devices={devices} it must be auto, cpu or cuda", "argument-invalid"
        )
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"devices={devices} are more than the {torch.cuda.device_count()} GPUs of this machine", "argument-invalid"
        )
    return devices


def _memory_gb(config: Values) -> float | None:
    value = optional_number(config, "memory_gb")
    if value is not None and value <= 0:
        raise InputError(f"memory_gb must be positive, or null for what is free, not {value:g}", "argument-invalid")
    return value


def _axes(value: object) -> tuple[int, ...]:
    """Return the indices of the named axes, in (z, y, x) order."""
    if isinstance(value, bool):
        return (0, 1, 2) if value else ()
    names = list(value) if isinstance(value, (ListConfig, list)) else [value]
    if not names or not set(map(str, names)) <= {"x", "y", "z"}:
        raise InputError(
            f"mirror must be true, false or a list of axes such as [x,z], not {value!r}", "argument-invalid"
        )
    return tuple(sorted({"zyx".index(str(name)) for name in names}))
