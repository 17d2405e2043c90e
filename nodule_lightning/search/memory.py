"""Estimate the memory of a network's forward pass, and recognise out-of-memory errors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor, nn

# Extension point that torch documents under this name only: it alone sees each tensor that an operation makes.
from torch.utils._python_dispatch import TorchDispatchMode

from nodule_lightning.models.heads import DetectionNetwork

GIGABYTE: Final = 10**9
# Workspace of the convolutions beyond the tensors that are counted: on two CPU cores the resident memory rose by 1.0 to
# 1.2 times the count (unet3d in bf16: 2.0).
WORKSPACE: Final = 1.5


@dataclass(frozen=True, slots=True)
class MemoryCost:
    """Peak memory of a forward pass, besides the weights.

    Attributes:
        fixed_bytes: part that does not depend on the size of the image.
        bytes_per_voxel: part that grows with the image.
    """

    fixed_bytes: float
    bytes_per_voxel: float

    def bytes_for(self, voxels: int) -> float:
        """Return the bytes that an image of so many voxels needs."""
        return self.fixed_bytes + self.bytes_per_voxel * voxels

    def voxels_in(self, memory_bytes: float) -> int:
        """Return the largest image, in voxels, that fits into some memory.

        >>> MemoryCost(100.0, 8.0).voxels_in(500.0)
        50
        """
        return max(int((memory_bytes - self.fixed_bytes) / self.bytes_per_voxel), 0)


def memory_cost(network: DetectionNetwork) -> MemoryCost:
    """Measure the peak memory of a network's forward pass in the current precision; measured once for each network.

    The network runs over two tiny volumes while the tensors alive at the same time are added up. The factor `WORKSPACE`
    allows for what the convolutions allocate themselves.
    """
    weights = next(network.parameters())
    key = (weights.device.type, weights.dtype, torch.is_autocast_enabled(weights.device.type))
    known = _COSTS.setdefault(network, {})
    if key not in known:
        known[key] = _count(network)
    return known[key]


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that memory ran out; torch's CPU allocator has no exception type of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator" in str(error) or "not enough memory" in str(error)
    )


# Some layers need more than a voxel or two at the lowest resolution.
_LEAST_PROBE_VOXELS: Final = 32
_COSTS: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], MemoryCost]] = WeakKeyDictionary()


def _count(network: DetectionNetwork) -> MemoryCost:
    side = max(2 * network.stride_total, _LEAST_PROBE_VOXELS)
    small, large = (_peak_bytes(network, (side, side, length)) for length in (side, 2 * side))
    per_voxel = max(large - small, 1) / side**3
    return MemoryCost(WORKSPACE * max(small - per_voxel * side**3, 0), WORKSPACE * per_voxel)


def _peak_bytes(network: DetectionNetwork, shape: tuple[int, int, int]) -> int:
    with torch.inference_mode(), _AliveStorages(network) as alive:
        image = torch.zeros(1, 1, *shape, device=next(network.parameters()).device)
        # Not `__call__`, which would run the compiled code, whose tensors cannot be seen.
        network.forward(image)
    peak: int = alive.peak_bytes
    return peak


def _tensors_in(result: object) -> Iterator[Tensor]:
    """Yield the tensors of an operation's result: one, or several in tuples and lists."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors_in(part)


class _AliveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's own hook
    """Track the bytes of all tensors that are alive at the same time, except the network's own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak_bytes = 0
        own = [*network.parameters(), *network.buffers()]
        self._known = {tensor.untyped_storage().data_ptr() for tensor in own}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's own signature
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors_in(result):
            self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._known:
            return
        self._known.add(address)
        self.bytes += size
        self.peak_bytes = max(self.peak_bytes, self.bytes)
        finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.bytes -= size
