"""Run a detector over one prepared scan: from the cache entry to candidates in the world."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from nodule_lightning.data.cache import OUTSIDE, Entry
from nodule_lightning.data.intensity import normalise
from nodule_lightning.data.patches import position_in_crop, visible
from nodule_lightning.detection.decoding import ScoredBoxes
from nodule_lightning.detection.nms import suppress
from nodule_lightning.errors import InputError
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.structures import Candidates

Window = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """How a scan is searched.

    Attributes:
        fill_outside_lungs: put the grey value 170 outside the lung mask, as in training.
        max_voxels: a crop of at most so many voxels goes through the network whole; a larger one in tiles.
        tile_voxels: side of a tile.
        margin_voxels: rim of each tile whose output is thrown away, because its view is cut.
        min_probability: candidates below are dropped.
        most_boxes: boxes that enter suppression.
        most_candidates: candidates of a scan (LUNA16 reads at most 100).
        overlap: see `nms.suppress`.
        min_distance_mm: see `nms.suppress`.
        largest_diameter_mm: larger candidates are made so small, else one wild number suppresses all others.
    """

    fill_outside_lungs: bool = True
    max_voxels: int = 24_000_000
    tile_voxels: int = 208
    margin_voxels: int = 32
    min_probability: float = 0.01
    most_boxes: int = 1000
    most_candidates: int = 100
    overlap: float = 0.5
    min_distance_mm: float = 3.0
    largest_diameter_mm: float = 60.0

    def __post_init__(self) -> None:
        if self.tile_voxels % 16 or self.margin_voxels % 16 or self.tile_voxels <= 2 * self.margin_voxels:
            raise InputError(
                "tile_voxels and margin_voxels must be multiples of 16 and a tile wider than its two margins, "
                f"not {self.tile_voxels} and {self.margin_voxels}"
            )


def detect(network: DetectionNetwork, entry: Entry, settings: InferenceSettings) -> Candidates:
    """Find the candidates of one scan, best first, with centres inside the lung mask.

    The network is put into evaluation mode for the call and runs on the device where its weights are.

    Raises:
        InputError: the scan was prepared with other voxels than the network's.
    """
    network.anchors.require_spacing(entry.grid.spacing_zyx_mm[0], entry.scan_id)
    lung = np.asarray(entry.lung, dtype=bool)
    image = torch.from_numpy(padded_image(np.asarray(entry.ct), lung, network.stride_total, settings))
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            maps = scan_maps(network, image, settings, entry.ct.shape)
            found = network.decode(
                maps,
                min_probability=settings.min_probability,
                most=settings.most_boxes,
                largest_diameter=settings.largest_diameter_mm / network.anchors.spacing_mm,
            )
    finally:
        network.train(was_training)
    return _candidates(found, entry, settings)


def padded_image(
    ct: UInt8[np.ndarray, "z y x"], lung: Bool[np.ndarray, "z y x"], multiple: int, settings: InferenceSettings
) -> UInt8[np.ndarray, "zp yp xp"]:
    """Fill outside the lungs where asked, and pad at the end of each axis to a multiple of `multiple`."""
    if settings.fill_outside_lungs:
        ct = np.where(lung, ct, np.uint8(OUTSIDE))
    return np.pad(ct, [(0, -size % multiple) for size in ct.shape], constant_values=OUTSIDE)


def scan_maps(
    network: DetectionNetwork, image: UInt8[Tensor, "z y x"], settings: InferenceSettings, crop: tuple[int, ...]
) -> Float[Tensor, "cz cy cx anchor numbers"]:
    """Compute the maps of a padded image, whole or tile by tile; `crop` is its shape before it was padded."""
    stride, size = network.anchors.stride, image.shape
    # One tile as large as the scan, where that fits.
    fits = image.numel() <= settings.max_voxels
    side, margin = (max(size), 0) if fits else (settings.tile_voxels, settings.margin_voxels)
    shape = (
        size[0] // stride,
        size[1] // stride,
        size[2] // stride,
        len(network.anchors.diameters_mm),
        network.numbers,
    )
    maps = torch.empty(shape, device=next(network.parameters()).device)
    for window, core in tiles(size, side, margin):
        part = _forward(network, image, window, crop)
        inside = tuple(
            slice((c.start - w.start) // stride, (c.stop - w.start) // stride)
            for c, w in zip(core, window, strict=True)
        )
        maps[tuple(slice(c.start // stride, c.stop // stride) for c in core)] = part[inside]
    return maps


def tiles(shape: torch.Size | tuple[int, ...], side: int, margin: int) -> Iterator[tuple[Window, Window]]:
    """Give windows to run and the cores of them to keep; the cores cover the volume once.

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


def _forward(network: DetectionNetwork, image: UInt8[Tensor, "z y x"], window: Window, crop: tuple[int, ...]) -> Tensor:
    device = next(network.parameters()).device
    position = position_in_crop([part.start for part in window], [part.stop for part in window], crop)
    maps: Tensor = network(normalise(image[window].to(device))[None, None], torch.from_numpy(position)[None].to(device))
    return maps[0].float()


def _candidates(found: ScoredBoxes, entry: Entry, settings: InferenceSettings) -> Candidates:
    """Drop what lies outside the lungs, suppress doubles, and go to world millimetres."""
    spacing_mm = entry.grid.spacing_zyx_mm[0]
    boxes, probability = found.boxes.numpy(), found.probability.numpy()
    inside = visible(boxes, entry.lung)
    boxes, probability = boxes[inside], probability[inside]
    kept = suppress(
        torch.from_numpy(boxes * spacing_mm),
        torch.from_numpy(probability),
        overlap=settings.overlap,
        min_distance=settings.min_distance_mm,
    ).numpy()[: settings.most_candidates]
    return Candidates(entry.grid.to_world(boxes[kept, :3]), probability[kept], boxes[kept, 3] * spacing_mm)
