"""Tiles: they cover the volume, grow smaller where memory runs out, and leave out what lies far from the lungs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.search.inference import InferenceSettings, detect
from nodule_lightning.search.memory import MemoryCost
from nodule_lightning.search.tiling import (
    NOTHING_LOGIT,
    TileSizes,
    Window,
    first_sizes,
    require_tileable,
    search_tiles,
    tiles,
)
from tests.balls import ball_entry, tiny_network, tiny_segmentation

SHAPE = torch.Size((64, 64, 128))


def test_cores_of_tiles_cover_every_voxel_once() -> None:
    count = np.zeros((32, 48, 80), int)
    for window, core in tiles(count.shape, 64, 16):
        count[core] += 1
        assert all(w.start <= c.start and c.stop <= w.stop for w, c in zip(window, core, strict=True))
    assert (count == 1).all()


def forward_below(
    network: DetectionNetwork, most_voxels: int, error: Exception, seen: list[int]
) -> Callable[[Window], Tensor]:
    """Give ones for windows of at most so many voxels."""

    def forward(window: Window) -> Tensor:
        size = [part.stop - part.start for part in window]
        seen.append(max(size))
        if np.prod(size) > most_voxels:
            raise error
        cells = [side // network.anchors.stride for side in size]
        return torch.ones(*cells, len(network.anchors.diameters_mm), network.numbers)

    return forward


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 7 bytes"),
    ],
    ids=str,
)
def test_where_memory_runs_out_tiles_are_halved(error: Exception) -> None:
    network, seen = tiny_network(), list[int]()
    forward = forward_below(network, 48**3, error, seen)
    maps = search_tiles(network, np.ones(SHAPE, bool), SHAPE, TileSizes(128, 16, 16), forward)
    assert maps.shape == (16, 16, 32, 2, 5)
    assert (maps == 1).all()
    assert [side for side in seen if side > 48] == [128, 64]


def test_where_the_smallest_tile_does_not_fit_the_cure_is_said() -> None:
    network, seen = tiny_network(), list[int]()
    forward = forward_below(network, 0, torch.OutOfMemoryError(), seen)
    with pytest.raises(InputError) as error:
        search_tiles(network, np.ones(SHAPE, bool), SHAPE, TileSizes(128, 16, 16), forward)
    assert error.value.key == "memory-exhausted"
    assert "48 voxels" in str(error.value)
    assert len(seen) == 3


def test_another_error_is_not_taken_for_want_of_memory() -> None:
    network, seen = tiny_network(), list[int]()
    forward = forward_below(network, 0, RuntimeError("shapes do not match"), seen)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        search_tiles(network, np.ones(SHAPE, bool), SHAPE, TileSizes(128, 16, 16), forward)
    assert len(seen) == 1


@pytest.mark.parametrize("network", [tiny_network(), tiny_segmentation()], ids=lambda item: type(item).__name__)
def test_tiles_far_from_the_lungs_are_left_out_and_hold_nothing(network: DetectionNetwork) -> None:
    lung, seen = np.zeros(SHAPE, bool), list[int]()
    lung[:, :, 4:8] = True
    forward = forward_below(network, 48**3, MemoryError(), seen)
    maps = search_tiles(network, lung, SHAPE, TileSizes(48, 16, 16), forward)
    # Of the eight cores along x the first holds the lung, and the second lies next to it.
    assert len(seen) == 4 * 4 * 2
    stride = network.anchors.stride
    assert (maps[:, :, : 32 // stride] == 1).all()
    assert (maps[:, :, 32 // stride :, :, 0] == NOTHING_LOGIT).all()
    found = network.decode(maps[:, :, 32 // stride :], min_probability=0.001, most=100)
    assert len(found.probability) == 0
    everything = network.decode(maps[:, :, 32 // stride :], min_probability=0.0, most=100)
    assert torch.isfinite(everything.boxes).all()
    assert (everything.probability < 1e-40).all()


def test_a_crop_without_lungs_is_not_searched_in_tiles() -> None:
    seen = list[int]()
    forward = forward_below(tiny_network(), 48**3, MemoryError(), seen)
    search_tiles(tiny_network(), np.zeros(SHAPE, bool), SHAPE, TileSizes(48, 16, 16), forward)
    assert seen == []


def sizes_for(
    monkeypatch: pytest.MonkeyPatch,
    memory_gb: float | None,
    tile_voxels: int | None = None,
    shape: tuple[int, ...] = (160, 160, 160),
    margin_voxels: int = 16,
) -> TileSizes:
    cost = MemoryCost(0.0, 1000.0)
    monkeypatch.setattr("nodule_lightning.search.tiling.memory_cost", lambda network: cost)
    monkeypatch.setattr("nodule_lightning.search.tiling.available_bytes", lambda device: 10.0**9)
    return first_sizes(
        tiny_network(), torch.Size(shape), memory_gb=memory_gb, tile_voxels=tile_voxels, margin_voxels=margin_voxels
    )


def test_the_memory_says_how_large_tiles_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes_for(monkeypatch, 4.1).side == 160
    # 2 million voxels are 126 along each axis.
    assert sizes_for(monkeypatch, 2.0) == TileSizes(112, 16, 16)
    assert sizes_for(monkeypatch, 2.0, 64).side == 64
    assert sizes_for(monkeypatch, 4.1, 64).side == 64
    # What is free: 1 GB.
    assert sizes_for(monkeypatch, None).side == 96
    with pytest.raises(InputError) as error:
        sizes_for(monkeypatch, 0.1)
    assert error.value.key == "memory-exhausted"
    assert all(value in str(error.value) for value in ("0.1 GB", "48 voxels"))


def test_a_thin_volume_has_wider_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    # A tile ends where the volume does: 32 * 240 * 240 voxels are below 2 million, and 32 * 256 * 256 above.
    assert sizes_for(monkeypatch, 2.0, shape=(32, 320, 320)).side == 240
    with pytest.raises(InputError) as error:
        sizes_for(monkeypatch, 0.07, shape=(32, 320, 320))
    assert all(value in str(error.value) for value in ("48 voxels", "0.0737 GB"))


def test_what_a_crop_below_the_smallest_tile_needs_is_said_of_the_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="whole crop") as error:
        sizes_for(monkeypatch, 0.7, shape=(80, 96, 96), margin_voxels=64)
    assert error.value.key == "memory-exhausted"
    assert all(value in str(error.value) for value in ("0.7 GB", "0.737 GB"))
    assert sizes_for(monkeypatch, 0.74, shape=(80, 96, 96), margin_voxels=64).side == 96


def test_a_side_below_three_rounded_margins_is_no_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_network()
    network.stride_total = 32
    monkeypatch.setattr("nodule_lightning.search.tiling.memory_cost", lambda network: MemoryCost(0.0, 1.0))
    sizes = first_sizes(network, torch.Size((320, 320, 320)), memory_gb=9, tile_voxels=144, margin_voxels=48)
    assert sizes == TileSizes(192, 64, 32)


class PooledContext(nn.Module):
    """Looks at the whole image at once, as squeeze and excitation does."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(1)


@pytest.mark.parametrize(
    "module",
    [
        nn.InstanceNorm3d(2),
        nn.GroupNorm(1, 2),
        nn.BatchNorm3d(2, track_running_stats=False),
        nn.LayerNorm([2, 4, 4, 4]),
        PooledContext(),
    ],
    ids=str,
)
def test_statistics_over_the_tile_are_refused(module: nn.Module) -> None:
    with pytest.raises(InputError) as error:
        require_tileable(nn.Sequential(nn.Conv3d(1, 2, 1), module))
    assert error.value.key == "memory-exhausted"


@pytest.mark.parametrize("module", [nn.BatchNorm3d(2), nn.LayerNorm(2), nn.InstanceNorm3d(2, track_running_stats=True)])
def test_fixed_statistics_are_not(module: nn.Module) -> None:
    require_tileable(nn.Sequential(nn.Conv3d(1, 2, 1), module))


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_a_norm_over_the_tile_searches_whole_crops_alone(norm: str) -> None:
    network = tiny_segmentation(norm)
    entry, _ = ball_entry("a", [])
    settings = InferenceSettings(margin_voxels=16)
    detect(network, entry, settings)
    with pytest.raises(InputError) as error:
        detect(network, entry, replace(settings, tile_voxels=48))
    assert error.value.key == "memory-exhausted"
