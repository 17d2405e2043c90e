"""Run a detection network over one prepared scan: from the cache entry to candidates in world millimetres."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from nodule_lightning.boxes import OUTSIDE, position_in_crop, visible
from nodule_lightning.detection.decoding import ScoredBoxes
from nodule_lightning.detection.intensity import normalise
from nodule_lightning.detection.nms import suppress
from nodule_lightning.errors import InputError
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.search.mirroring import average_maps, mirror_maps, mirror_position, mirrorings
from nodule_lightning.search.tiling import Window, first_sizes, search_tiles
from nodule_lightning.structures import Candidates, Entry


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """How a scan is searched.

    Attributes:
        fill_outside_lungs: put the grey value 170 outside the lung mask, as in training.
        memory_gb: memory limit of the network; a crop that fits is searched whole, a larger one in tiles. None takes a
            share of the free memory, see `free_memory.available_bytes`.
        tile_voxels: largest side of a tile, whatever the memory; None sets no bound.
        margin_voxels: rim of each tile whose output is discarded, because its receptive field is cut off.
        mirror: axes (0, 1, 2 for z, y, x) of the test-time augmentation by flips; with n axes the network runs 2^n
            times, and the outputs are averaged, see `mirroring.average_maps`.
        min_probability: candidates below it are dropped.
        most_boxes: boxes that enter non-maximum suppression.
        most_candidates: candidates kept in a scan (LUNA16 reads at most 100).
        overlap: see `nms.suppress`.
        min_distance_mm: see `nms.suppress`.
        largest_diameter_mm: larger diameters are cut to this, else one outlier would suppress all other candidates.
    """

    fill_outside_lungs: bool = True
    memory_gb: float | None = None
    tile_voxels: int | None = None
    margin_voxels: int = 64
    mirror: Sequence[int] = ()
    min_probability: float = 0.01
    most_boxes: int = 1000
    most_candidates: int = 100
    overlap: float = 0.5
    min_distance_mm: float = 3.0
    largest_diameter_mm: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mirror", tuple(sorted(set(self.mirror))))
        if self.memory_gb is not None and not 0 < self.memory_gb < math.inf:
            raise InputError(
                f"memory_gb must be a positive number, or null for what is free, not {self.memory_gb}",
                "argument-invalid",
            )
        if self.margin_voxels < 0 or self.margin_voxels % 16:
            raise InputError(f"margin_voxels must be a multiple of 16, not {self.margin_voxels}", "argument-invalid")
        if self.tile_voxels is not None and (
            self.tile_voxels % 16 or self.tile_voxels < max(3 * self.margin_voxels, 16)
        ):
            raise InputError(
                "tile_voxels must be a multiple of 16 and at least three margins, "
                f"not {self.tile_voxels} with margin_voxels={self.margin_voxels}",
                "argument-invalid",
            )
        if not set(self.mirror) <= {0, 1, 2}:
            raise InputError(f"mirror must name axes 0, 1 or 2 (z, y, x), not {list(self.mirror)}", "argument-invalid")


def detect(network: DetectionNetwork, entry: Entry, settings: InferenceSettings) -> Candidates:
    """Find the candidates of one scan, best first, with centres inside the lung mask.

    The network runs in evaluation mode, on the device that holds its weights, and returns to its former mode.

    Raises:
        InputError: the entry has another voxel size than the network's, or the device's memory does not suffice.
    """
    network.anchors.require_spacing(entry.grid.spacing_zyx_mm[0], entry.scan_id)
    lung = np.asarray(entry.lung, dtype=bool)
    image = torch.from_numpy(padded_image(np.asarray(entry.ct), lung, network.stride_total, settings))
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            maps = scan_maps(network, image, lung, settings)
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
    """Fill outside the lungs if the settings say so, and pad the end of each axis to a multiple of `multiple`."""
    if settings.fill_outside_lungs:
        ct = np.where(lung, ct, np.uint8(OUTSIDE))
    return np.pad(ct, [(0, -size % multiple) for size in ct.shape], constant_values=OUTSIDE)


def scan_maps(
    network: DetectionNetwork,
    image: UInt8[Tensor, "z y x"],
    lung: Bool[np.ndarray, "zl yl xl"],
    settings: InferenceSettings,
) -> Float[Tensor, "cz cy cx anchor numbers"]:
    """Compute the output maps of a padded image, whole or tile by tile; the lung mask has the unpadded size."""
    sizes = first_sizes(
        network,
        image.shape,
        memory_gb=settings.memory_gb,
        tile_voxels=settings.tile_voxels,
        margin_voxels=settings.margin_voxels,
    )

    def forward(window: Window) -> Tensor:
        choices = mirrorings(settings.mirror)
        return average_maps(_forward(network, image, window, lung.shape, axes) for axes in choices)

    return search_tiles(network, lung, image.shape, sizes, forward)


def _forward(
    network: DetectionNetwork,
    image: UInt8[Tensor, "z y x"],
    window: Window,
    crop: tuple[int, ...],
    mirrored: tuple[int, ...],
) -> Tensor:
    """Run the network over one window, mirrored along some axes, and mirror its maps back."""
    device = next(network.parameters()).device
    position = torch.from_numpy(position_in_crop([part.start for part in window], [part.stop for part in window], crop))
    seen = normalise(image[window].flip(mirrored).to(device))
    maps: Tensor = network(seen[None, None], mirror_position(position, mirrored)[None].to(device))
    return mirror_maps(maps[0].float(), mirrored)


def _candidates(found: ScoredBoxes, entry: Entry, settings: InferenceSettings) -> Candidates:
    """Drop boxes outside the lungs, apply non-maximum suppression, and convert to world millimetres."""
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
