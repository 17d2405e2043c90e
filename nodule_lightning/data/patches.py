"""Cut patches with their findings from the cache, and collate them into batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int8, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from nodule_lightning.boxes import (
    IGNORED,
    NODULE,
    NOTHING,
    cut_outlines,
    cut_patch,
    position_in_crop,
    visible,
    voxel_boxes,
)
from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.data.open_scans import OpenScans
from nodule_lightning.data.sampler import PatchDraw
from nodule_lightning.structures import Entry


@dataclass(frozen=True, slots=True)
class Patch:
    """A cube cut from one scan.

    Attributes:
        scan_id: the scan.
        image: grey values.
        boxes: (z, y, x, diameter) of the findings that touch it, in voxels of the patch.
        kind: of each box: `NODULE`, or `IGNORED` for an excluded finding, for a nodule whose centre lies outside the
            patch, and for one outside the lung mask, where the detector never places a candidate.
        position: where it was cut, see `position_in_crop`.
        outlines: the number of readers who outlined a voxel, if the entry has them.
    """

    scan_id: str
    image: UInt8[np.ndarray, "z y x"]
    boxes: Float32[np.ndarray, "box 4"]
    kind: Int8[np.ndarray, "box"]
    position: Float32[np.ndarray, "3 2"]
    outlines: UInt8[np.ndarray, "z y x"] | None = None


@dataclass(frozen=True, slots=True)
class PatchBatch:
    """Patches on one device; shorter lists of boxes are padded with kind `NOTHING`.

    A mirrored patch has the two columns of its `position` swapped on that axis. There are `outlines` only if every
    patch has them.
    """

    scan_id: tuple[str, ...]
    image: UInt8[Tensor, "b 1 z y x"]
    boxes: Float32[Tensor, "b box 4"]
    kind: Int8[Tensor, "b box"]
    position: Float32[Tensor, "b 3 2"]
    outlines: UInt8[Tensor, "b 1 z y x"] | None = None

    def __len__(self) -> int:
        return len(self.scan_id)

    def to(self, device: torch.device) -> Self:
        """Copy to a device, asynchronously from page-locked memory; Lightning calls this."""
        non_blocking = self.image.is_pinned()
        return replace(
            self,
            image=self.image.to(device, non_blocking=non_blocking),
            boxes=self.boxes.to(device, non_blocking=non_blocking),
            kind=self.kind.to(device, non_blocking=non_blocking),
            position=self.position.to(device, non_blocking=non_blocking),
            outlines=None if self.outlines is None else self.outlines.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Self:
        """Copy to page-locked memory; the DataLoader calls this."""
        return replace(
            self,
            image=self.image.pin_memory(),
            boxes=self.boxes.pin_memory(),
            kind=self.kind.pin_memory(),
            position=self.position.pin_memory(),
            outlines=None if self.outlines is None else self.outlines.pin_memory(),
        )


def collate(patches: Sequence[Patch]) -> PatchBatch:
    """Stack patches of one size into a batch, their boxes padded to equal number."""
    most = max(len(patch.kind) for patch in patches)
    boxes = np.zeros((len(patches), most, 4), np.float32)
    kind = np.full((len(patches), most), NOTHING, np.int8)
    for row, patch in enumerate(patches):
        boxes[row, : len(patch.kind)] = patch.boxes
        kind[row, : len(patch.kind)] = patch.kind
    image = torch.from_numpy(np.stack([patch.image for patch in patches]))
    position = torch.from_numpy(np.stack([patch.position for patch in patches]))
    scan_ids = tuple(patch.scan_id for patch in patches)
    drawn = [patch.outlines for patch in patches if patch.outlines is not None]
    outlines = torch.from_numpy(np.stack(drawn))[:, None] if len(drawn) == len(patches) else None
    return PatchBatch(scan_ids, image[:, None], torch.from_numpy(boxes), torch.from_numpy(kind), position, outlines)


@dataclass(frozen=True, slots=True)
class _OpenScan:
    """An open training scan with its findings in voxels.

    Attributes:
        entry: the prepared scan.
        diameter_mm: of the nodules inside the lung mask, which a detector could report.
        nodules: these nodules, in voxels.
        ignored: findings that are neither nodules nor background, in voxels.
    """

    entry: Entry
    diameter_mm: Float64[np.ndarray, "n"]
    nodules: Float64[np.ndarray, "n 4"]
    ignored: Float64[np.ndarray, "m 4"]

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Split the findings of a scan into nodules to detect and findings to ignore."""
        findings = entry.labels.nodules
        marked = voxel_boxes(findings, entry)
        seen = visible(marked, entry.lung)
        ignored = np.concatenate([marked[~seen], voxel_boxes(entry.labels.excluded, entry)])
        return cls(entry, findings.diameter_mm[seen], marked[seen], ignored)


class PatchDataset(Dataset[Patch]):
    """Patches of training scans, indexed by the sampler's draws.

    Args:
        catalog: of the cache.
        scan_ids: the training scans, in the order that the sampler counts in.
        patch_voxels: side of the patches.
        fill_outside_lungs: put the grey value 170 outside the lung mask.
        border_voxels: a drawn nodule or place lies at a random place of the patch, at least this far (plus the
            nodule's radius) from the patch's faces, or in its middle where it does not fit.
    """

    def __init__(
        self,
        catalog: Catalog,
        scan_ids: Sequence[str],
        patch_voxels: int,
        *,
        fill_outside_lungs: bool = True,
        border_voxels: float = 8.0,
    ) -> None:
        self.catalog = catalog
        self.scan_ids = tuple(scan_ids)
        self.patch_voxels = patch_voxels
        self.fill_outside_lungs = fill_outside_lungs
        self.border_voxels = border_voxels
        self.open_scans = OpenScans[_OpenScan]()

    def __getitem__(self, draw: PatchDraw) -> Patch:
        rng = np.random.default_rng(draw.seed)
        scan = self.open_scans.get(
            draw.scan_index, lambda: _OpenScan.of(self.catalog.entry(self.scan_ids[draw.scan_index]))
        )
        entry = scan.entry
        if draw.place_zyx is not None:
            target = np.array([*draw.place_zyx, 0.0])
        elif draw.finding_index >= 0:
            target = scan.nodules[draw.finding_index]
        else:
            target = np.array([*random_lung_voxel(entry.lung, rng), 0.0])
        start = self._start(target, rng)
        boxes, kind = boxes_in_patch(scan.nodules, scan.ignored, start, self.patch_voxels)
        position = position_in_crop(start, start + self.patch_voxels, entry.ct.shape)
        image = cut_patch(entry, start, self.patch_voxels, fill_outside_lungs=self.fill_outside_lungs)
        outlines = cut_outlines(entry, start, self.patch_voxels)
        return Patch(entry.scan_id, image, boxes, kind, position, outlines)

    def diameters_mm(self) -> list[Float64[np.ndarray, "n"]]:
        """Return, for each scan, the diameters of the nodules inside the lung mask: those that can be drawn."""
        return [_OpenScan.of(self.catalog.entry(scan_id)).diameter_mm for scan_id in self.scan_ids]

    def _start(self, target: Float64[np.ndarray, "4"], rng: np.random.Generator) -> Int64[np.ndarray, "3"]:
        """Choose the patch's first voxel so that the target lies at a random place in it."""
        middle = (self.patch_voxels - 1) / 2
        play = max(middle - self.border_voxels - target[3] / 2, 0.0)
        return np.rint(target[:3] - middle + rng.uniform(-play, play, 3)).astype(np.int64)


def boxes_in_patch(
    nodules: Float64[np.ndarray, "n 4"],
    ignored: Float64[np.ndarray, "m 4"],
    start: Int64[np.ndarray, "3"],
    side: int,
) -> tuple[Float32[np.ndarray, "box 4"], Int8[np.ndarray, "box"]]:
    """Return the boxes that touch the patch, in its voxels, with their kinds."""
    boxes = np.concatenate([nodules, ignored])
    boxes[:, :3] -= start
    kind = np.repeat(np.array([NODULE, IGNORED], np.int8), [len(nodules), len(ignored)])
    centre, radius = boxes[:, :3], boxes[:, 3:] / 2
    touches = ((centre + radius > -0.5) & (centre - radius < side - 0.5)).all(axis=1)
    centred = ((centre > -0.5) & (centre < side - 0.5)).all(axis=1)
    kind[~centred] = IGNORED
    return boxes[touches].astype(np.float32), kind[touches]


def random_lung_voxel(
    lung: UInt8[np.ndarray, "z y x"], rng: np.random.Generator, tries: int = 256
) -> Int64[np.ndarray, "3"]:
    """Draw a random voxel of the mask by rejection sampling, which reads only a few bytes of the memory map.

    The lungs fill about half of their box, so that a few tries suffice; a mask that is nearly empty gives its middle.
    """
    places = rng.integers(0, lung.shape, size=(tries, 3))
    for place in places:
        if lung[tuple(place)]:
            return np.asarray(place)
    return np.asarray(lung.shape) // 2
