"""Several passes over one place in one DICOM series, told by numbers, times, order or distances."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float64

from nodule_lightning.io.dicom_headers import Slice
from nodule_lightning.io.dicom_volume import SAME_PLACE_MM, axes_of
from nodule_lightning.io.settings import ReadingSettings

# So few slices are no pass.
_FEW: Final = 3
# One distance between two that are twice as large, or several by turns, each smaller than its neighbours.
_FAR_BELOW: Final = 0.5
_SMALLER: Final = 0.9
_ONE_MORE: Final = 1.1
# An order of InstanceNumbers that turns more often says nothing.
_MOST_TURNS: Final = 8


def keep_one_pass(folder: Path, slices: Sequence[Slice], reading: ReadingSettings) -> tuple[list[Slice], list[str]]:
    """Keep the largest of several passes over the same place.

    Args:
        folder: of the series, for messages.
        slices: images of one plane that say where they lie.
        reading: what to do where there are several passes.

    Returns:
        The slices of one pass, and notes.

    Raises:
        InputError: there are several passes and reading is strict.
    """
    normal = axes_of(folder, slices[0])[:, 2]
    depth = np.array([image.position_xyz_mm for image in slices]) @ normal
    order = np.argsort(depth, kind="stable")
    kept, notes = list(slices), []
    for labels in (
        [image.acquisition for image in slices],
        [image.time for image in slices],
        _turns(depth, np.array([image.number for image in slices])),
    ):
        passes = {label: count for label, count in Counter(labels).most_common() if count > _FEW}
        upwards = [labels[place] for place in order.tolist() if labels[place] in passes]
        changes = sum(one != other for one, other in pairwise(upwards))
        # Passes one after the other change once less than there are passes.
        if changes >= len(passes) + _FEW:
            counts = " and ".join(map(str, passes.values()))
            fault = f"one series holds several passes over one place, of {counts} slices"
            notes.append(reading.doubt(folder, fault))
            largest = next(iter(passes))
            kept = [image for image, label in zip(slices, labels, strict=True) if label == largest]
            break
    if _is_interleaved(np.sort(np.array([image.position_xyz_mm for image in kept]) @ normal)):
        fault = "its slices lie close together and far apart by turns, as of several passes in one series"
        notes.append(reading.doubt(folder, fault))
    return kept, notes


def _turns(depth_mm: Float64[np.ndarray, "slice"], number: Float64[np.ndarray, "slice"]) -> list[int]:
    """Number the stretches in which the slices, by InstanceNumber, go one way; all 0 if there is no such order."""
    order = np.lexsort((depth_mm, number))
    steps = np.sign(np.diff(depth_mm[order]).round(2))
    way = steps[steps != 0]
    turns = np.cumsum(np.append(0, way[1:] != way[:-1]))
    if np.isnan(number).any() or not len(way) or turns[-1] > _MOST_TURNS:
        return [0] * len(depth_mm)
    labels = np.zeros(len(depth_mm), dtype=np.int64)
    # Of slices at one place, the later ones belong to the stretch of the first.
    labels[order[1:]] = turns[np.maximum(np.cumsum(steps != 0) - 1, 0)]
    result: list[int] = labels.tolist()
    return result


def _is_interleaved(depth_mm: Float64[np.ndarray, "slice"]) -> bool:
    """Recognise slices of two passes: distances far below those around them, or small and large ones by turns.

    Args:
        depth_mm: ascending positions along the normal.
    """
    gaps = np.diff(depth_mm)
    gaps = gaps[gaps > SAME_PLACE_MM]
    if len(gaps) < 3:
        return False
    usual = float(np.median(gaps))
    beyond = np.concatenate([[usual], gaps, [usual]])
    neighbour = np.minimum(beyond[:-2], beyond[2:])
    by_turns = gaps < _SMALLER * neighbour
    lone = (gaps < _FAR_BELOW * neighbour) & (gaps < _FAR_BELOW * usual)
    # One more slice parts a usual distance in two.
    pair, around = gaps[:-1] + gaps[1:], np.minimum(beyond[:-3], beyond[3:])
    parted = pair < _ONE_MORE * np.minimum(around, usual)
    return bool(lone.any() or parted.any() or (by_turns[:-2] & by_turns[2:]).any())
