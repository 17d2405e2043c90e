"""Run a network over a volume: whole if memory allows, else in overlapping tiles, which shrink if memory runs out."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor, nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.search.free_memory import available_bytes
from nodule_lightning.search.memory import GIGABYTE, is_out_of_memory, memory_cost

log = logging.getLogger(__name__)

Window = tuple[slice, slice, slice]

NOTHING_LOGIT = -100.0
"""Logit of map cells that were not searched: a probability of 4e-44."""

# Smaller volumes fit anywhere, and measuring their memory would take longer than it could save.
_ALWAYS_WHOLE_VOXELS = 2**20
# These keep running statistics, or compute them over the image.
_NORMS_OVER_SPACE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
# Farthest that an anchor may place its box from its own cell.
_REACH_VOXELS = 16


@dataclass(frozen=True, slots=True)
class TileSizes:
    """Size of tiles in voxels, in multiples of the network's total stride.

    Attributes:
        side: of a tile; a volume that one tile covers is searched whole.
        margin: rim of each tile whose output is discarded, because its receptive field is cut off.
        step: the network's total stride.
    """

    side: int
    margin: int
    step: int

    @property
    def smallest_side(self) -> int:
        """The smallest side allowed: the kept core is then a third of the tile's width."""
        return max(3 * self.margin, self.step)

    def cover(self, shape: torch.Size) -> bool:
        """Tell whether one tile holds the whole volume."""
        return self.side >= max(shape)

    def halved(self) -> "TileSizes | None":
        """Return tiles of half the side, but not below the smallest; None if these are the smallest."""
        if self.side <= self.smallest_side:
            return None
        return TileSizes(max(self.side // 2 // self.step * self.step, self.smallest_side), self.margin, self.step)


def search_tiles(
    network: DetectionNetwork,
    lung: Bool[ndarray, "z y x"],
    shape: torch.Size,
    sizes: TileSizes,
    forward: Callable[[Window], Float[Tensor, "cz cy cx anchor numbers"]],
) -> Float[Tensor, "cz cy cx anchor numbers"]:
    """Compute the output maps of a volume in tiles of a given size, halved as long as memory runs out.

    Args:
        network: supplies stride and anchors of the maps.
        lung: the lung mask; tiles whose core is not in or next to it are skipped, and hold `NOTHING_LOGIT`.
        shape: of the volume, padded to multiples of the network's total stride.
        sizes: of the tiles to try first.
        forward: computes the maps of a window of the volume.

    Raises:
        InputError: memory runs out even with the smallest tiles, or the network cannot be run in tiles.
    """
    trial: TileSizes | None = sizes
    while trial is not None:
        if not trial.cover(shape):
            require_tileable(network)
        maps = _maps_or_none(network, lung, shape, trial, forward)
        if maps is not None:
            return maps
        former, trial = trial, trial.halved()
        if trial is not None:
            what = "the whole crop" if former.cover(shape) else f"tiles of {former.side} voxels"
            log.warning("no memory for %s; trying tiles of %d voxels", what, trial.side)
    raise InputError(
        f"memory runs out even with tiles of {former.side} voxels: free some, take a smaller network or another device",
        "memory-exhausted",
    )


def first_sizes(
    network: DetectionNetwork,
    shape: torch.Size,
    *,
    memory_gb: float | None,
    tile_voxels: int | None,
    margin_voxels: int,
) -> TileSizes:
    """Choose the whole volume if the memory allows it, else the largest tile that fits.

    Args:
        network: measured for its memory, see `memory_cost`.
        shape: of the volume, padded.
        memory_gb: limit of a forward pass; None for a share of what is free on the network's device.
        tile_voxels: largest side of a tile, but never below three margins; None sets no bound.
        margin_voxels: rim of each tile.

    Raises:
        InputError: not even the smallest tile, or a crop smaller than it, fits into the memory.
    """
    step = network.stride_total
    sizes = TileSizes(max(shape), -(-margin_voxels // step) * step, step)
    if memory_gb is None and tile_voxels is None and shape.numel() <= _ALWAYS_WHOLE_VOXELS:
        return sizes
    cost, device = memory_cost(network), next(network.parameters()).device
    memory_bytes = available_bytes(device) if memory_gb is None else memory_gb * GIGABYTE
    most_voxels = cost.voxels_in(memory_bytes)
    # A crop smaller than the smallest tile goes through whole or not at all.
    least = min(sizes.smallest_side, max(shape))
    side = next((side for side in range(max(shape), 0, -step) if _largest_tile(side, shape) <= most_voxels), 0)
    if side < least:
        what = f"the smallest tile, of {least} voxels" if least < max(shape) else "the whole crop"
        needed_gb = cost.bytes_for(_largest_tile(least, shape)) / GIGABYTE
        raise InputError(
            f"{memory_bytes / GIGABYTE:.3g} GB of memory are not enough for {what}, which takes {needed_gb:.3g} GB; "
            "free some or raise memory_gb",
            "memory-exhausted",
        )
    # Margins are rounded up to the step, so three of them can exceed `tile_voxels`.
    if tile_voxels is not None:
        side = max(min(side, tile_voxels), least)
    return TileSizes(side // step * step, sizes.margin, step)


def require_tileable(network: nn.Module) -> None:
    """Refuse a network whose output at one place depends on the extent of its image.

    Raises:
        InputError: a layer computes statistics over its whole input.
    """
    for module in network.modules():
        if _looks_at_all_of_its_input(module):
            raise InputError(
                f"the network's {type(module).__name__} takes statistics over the whole image, so that tiles would "
                "change what it finds; give it the memory for the whole crop (raise memory_gb, or take another device)",
                "memory-exhausted",
            )


def tiles(shape: torch.Size | tuple[int, ...], side: int, margin: int) -> Iterator[tuple[Window, Window]]:
    """Yield the windows to run and their cores to keep; the cores cover each voxel of the volume once.

    >>> [(w[2], c[2]) for w, c in tiles((16, 16, 64), 48, 16)]
    [(slice(0, 32, None), slice(0, 16, None)), (slice(0, 48, None), slice(16, 32, None)), \
(slice(16, 64, None), slice(32, 48, None)), (slice(32, 64, None), slice(48, 64, None))]
    """
    step = side - 2 * margin
    for corner in product(*(range(0, size, step) for size in shape)):
        core = [slice(start, min(start + step, size)) for start, size in zip(corner, shape, strict=True)]
        window = [
            slice(max(part.start - margin, 0), min(part.stop + margin, size))
            for part, size in zip(core, shape, strict=True)
        ]
        yield (window[0], window[1], window[2]), (core[0], core[1], core[2])


def _largest_tile(side: int, shape: torch.Size) -> int:
    """Count the voxels of a tile, which is cut at the border of the volume."""
    return math.prod(min(side, size) for size in shape)


def _maps_or_none(
    network: DetectionNetwork,
    lung: Bool[ndarray, "z y x"],
    shape: torch.Size,
    sizes: TileSizes,
    forward: Callable[[Window], Tensor],
) -> Tensor | None:
    """Return the maps, or None if memory runs out; the memory held until then is free when this returns."""
    device = next(network.parameters()).device
    try:
        return _filled(network, lung, shape, sizes, forward, device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _filled(
    network: DetectionNetwork,
    lung: Bool[ndarray, "z y x"],
    shape: torch.Size,
    sizes: TileSizes,
    forward: Callable[[Window], Tensor],
    device: torch.device,
) -> Tensor:
    if sizes.cover(shape):
        return forward((slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])))
    stride, anchors = network.anchors.stride, len(network.anchors.diameters_mm)
    maps = torch.zeros(*(size // stride for size in shape), anchors, network.numbers, device=device)
    maps[..., 0] = NOTHING_LOGIT
    for window, core in tiles(shape, sizes.side, sizes.margin):
        if not lung[tuple(slice(max(c.start - _REACH_VOXELS, 0), c.stop + _REACH_VOXELS) for c in core)].any():
            continue
        part = forward(window)
        inside = tuple(
            slice((c.start - w.start) // stride, (c.stop - w.start) // stride)
            for c, w in zip(core, window, strict=True)
        )
        maps[tuple(slice(c.start // stride, c.stop // stride) for c in core)] = part[inside]
    return maps


def _looks_at_all_of_its_input(module: nn.Module) -> bool:
    if isinstance(module, _NORMS_OVER_SPACE):
        # Without running statistics, those of the image are used in evaluation too.
        return module.running_mean is None
    if isinstance(module, nn.LayerNorm):
        return len(module.normalized_shape) > 1
    return isinstance(module, nn.GroupNorm | nn.AdaptiveAvgPool3d | nn.AdaptiveMaxPool3d)
