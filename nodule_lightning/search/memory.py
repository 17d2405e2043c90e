"""What a forward pass of a network costs in memory, counted, and how it tells that there is no more."""

from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nodule_lightning.models.heads import DetectionNetwork

GIGABYTE: Final = 10**9
# What convolutions take for themselves beyond the tensors that are counted: the resident memory of two CPU cores rose
# by 1.0 to 1.2 times the count (unet3d in bf16: 2.0).
WORKSPACE: Final = 1.5


@dataclass(frozen=True, slots=True)
class MemoryCost:
    """What a forward pass holds at its fullest moment, besides the weights.

    Attributes:
        fixed_bytes: whatever the size of the image.
        bytes_per_voxel: of the image.
    """

    fixed_bytes: float
    bytes_per_voxel: float

    def bytes_for(self, voxels: int) -> float:
        """Give the need of an image."""
        return self.fixed_bytes + self.bytes_per_voxel * voxels

    def voxels_in(self, memory_bytes: float) -> int:
        """Give how many voxels fit.

        >>> MemoryCost(100.0, 8.0).voxels_in(500.0)
        50
        """
        return max(int((memory_bytes - self.fixed_bytes) / self.bytes_per_voxel), 0)


def memory_cost(network: DetectionNetwork) -> MemoryCost:
    """Count what a network's forward pass costs in the precision of now; counted once for each network.

    Two tiny volumes run, and the tensors that live at once are added up; convolutions' own workspace is allowed for by
    the factor `WORKSPACE`.
    """
    weights = next(network.parameters())
    key = (weights.device.type, weights.dtype, torch.is_autocast_enabled(weights.device.type))
    known = _COSTS.setdefault(network, {})
    if key not in known:
        known[key] = _count(network)
    return known[key]


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a device had no memory left; the CPU's allocator has no exception of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator" in str(error) or "not enough memory" in str(error)
    )


# Some layers need more than a voxel or two at the bottom.
_LEAST_PROBE_VOXELS: Final = 32
_COSTS: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], MemoryCost]] = WeakKeyDictionary()


def _count(network: DetectionNetwork) -> MemoryCost:
    side = max(2 * network.stride_total, _LEAST_PROBE_VOXELS)
    small, large = (_peak_bytes(network, (side, side, length)) for length in (side, 2 * side))
    per_voxel = max(large - small, 1) / side**3
    return MemoryCost(WORKSPACE * max(small - per_voxel * side**3, 0), WORKSPACE * per_voxel)


def _peak_bytes(network: DetectionNetwork, shape: tuple[int, int, int]) -> int:
    with torch.inference_mode(), _LivingStorages(network) as living:
        image = torch.zeros(1, 1, *shape, device=next(network.parameters()).device)
        # Past `__call__`: what is compiled cannot be looked into.
        network.forward(image)
    peak: int = living.peak_bytes
    return peak


class _LivingStorages(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's own hook
    """Add up the tensors that live at once, other than a network's own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak_bytes = 0
        own = [*network.parameters(), *network.buffers()]
        self._known = {tensor.untyped_storage()._cdata for tensor in own}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's own signature
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self._known:
            return
        self._known.add(address)
        self.bytes += size
        self.peak_bytes = max(self.peak_bytes, self.bytes)
        finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.bytes -= size
