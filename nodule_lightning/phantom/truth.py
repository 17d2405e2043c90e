"""A phantom scan with its ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from nodule_lightning.phantom.canvas import Canvas
from nodule_lightning.structures import Findings, Scan


@dataclass(frozen=True, slots=True)
class Phantom:
    """A phantom scan with its ground truth.

    Attributes:
        scan: the CT.
        nodules: the nodules.
        excluded: imitations that are listed as excluded findings, without diameter.
        lungs: mask of the lungs on the scan's grid; for a lung filled with fluid, its aerated part.
        nodule_labels: 1 in the first nodule, 2 in the second, and so on; 0 elsewhere. Each nodule has at least one
            voxel.
    """

    scan: Scan
    nodules: Findings
    excluded: Findings
    lungs: Bool[np.ndarray, "z y x"]
    nodule_labels: UInt8[np.ndarray, "z y x"]


def label_nodules(canvas: Canvas, shares: Sequence[Canvas], fine_per_slice: int) -> UInt8[np.ndarray, "z y x"]:
    """Label the voxels of each nodule: those that it fills by more than half, or else the one that it fills most.

    Args:
        canvas: the volume in fine slices.
        shares: for each nodule, the share of each fine voxel that it fills, in a window of the canvas.
        fine_per_slice: number of fine slices per slice of the scan.
    """
    depth, *plane = canvas.hu.shape
    labels = np.zeros((depth // fine_per_slice, *plane), dtype=np.uint8)
    for number, share in enumerate(shares, start=1):
        z, y, x = (
            int(np.searchsorted(whole, part[0])) if len(part) else 0
            for whole, part in ((canvas.z_mm, share.z_mm), (canvas.y_mm, share.y_mm), (canvas.x_mm, share.x_mm))
        )
        before = z % fine_per_slice
        after = -(before + len(share.z_mm)) % fine_per_slice
        padded = np.pad(share.hu, ((before, after), (0, 0), (0, 0)))
        filled = padded.reshape(-1, fine_per_slice, *padded.shape[1:]).mean(axis=1)
        if filled.size:
            inside = filled > min(0.5, float(filled.max()) * 0.999)
            window = labels[z // fine_per_slice :, y:, x:][: inside.shape[0], : inside.shape[1], : inside.shape[2]]
            window[inside] = number
    return labels
