"""Figure of patches before and after each augmentation, with circles around their findings."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from jaxtyping import Float32
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from nodule_lightning.boxes import IGNORED, NODULE
from nodule_lightning.data.augment import AugmentedBatch
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.report.canvas import BLUE, GREEN, INK, new_figure

GAP: Final = 3
TILE_INCH: Final = 1.5
RIM_VOXELS: Final = 1.5
KIND_COLOURS: Final = {NODULE: GREEN, IGNORED: BLUE}


def draw_augmentations(cut: PatchBatch, rows: Mapping[str, AugmentedBatch]) -> Figure:
    """Draw the axial slice through a nodule of each patch: one row for each augmentation, one column for each patch.

    Nodules are circled in green and ignored findings in blue, slightly outside their edge, if the slice meets their
    sphere. For a patch without a nodule, or whose nodule has moved out of it, the middle slice is shown.

    Args:
        cut: the patches before augmentation; the slice follows the first nodule of each.
        rows: the augmented patches, by the name of the augmentation.
    """
    figure = new_figure(TILE_INCH * len(cut) + 1.3, TILE_INCH * len(rows) + 0.1)
    axes = figure.add_subplot()
    side = cut.image.shape[-1]
    step = side + GAP
    mosaic = np.ones((step * len(rows) - GAP, step * len(cut) - GAP), np.float32)
    target = (cut.kind == NODULE).int().argmax(dim=1).tolist() if cut.kind.shape[1] else []
    for row, batch in enumerate(rows.values()):
        for column in range(len(cut)):
            boxes = batch.boxes[column].cpu().numpy()
            kinds = batch.kind[column].tolist()
            level = _slice_to_show(boxes, kinds, target[column] if target else None, side)
            corner = row * step, column * step
            mosaic[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = batch.image[column, 0, level].cpu()
            for box, kind in zip(boxes, kinds, strict=True):
                if kind in KIND_COLOURS and (circle := _circle(box, level, corner, KIND_COLOURS[kind])) is not None:
                    axes.add_patch(circle)
    axes.imshow(mosaic, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_yticks([row * step + side / 2 for row in range(len(rows))], list(rows), fontsize=9.5, color=INK)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _slice_to_show(boxes: Float32[np.ndarray, "box 4"], kinds: list[int], target: int | None, side: int) -> int:
    if target is None or kinds[target] != NODULE:
        return side // 2
    return int(np.clip(np.rint(boxes[target, 0]), 0, side - 1))


def _circle(box: Float32[np.ndarray, "4"], level: int, corner: tuple[int, int], colour: str) -> Circle | None:
    z, y, x, diameter = box.tolist()
    squared = (diameter / 2) ** 2 - (level - z) ** 2
    if squared <= 0:
        return None
    radius = squared**0.5 + RIM_VOXELS
    return Circle((corner[1] + x, corner[0] + y), radius, fill=False, edgecolor=colour, linewidth=1.1)
