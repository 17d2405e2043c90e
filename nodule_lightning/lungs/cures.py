"""The cures of the seed team's four failures, and one of our own: each is another set of rules, or what they ask for.

The talk's authors found and cured each failure by hand, scan by scan.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Final

import numpy as np

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.body import Body
from nodule_lightning.lungs.morphology import Mask
from nodule_lightning.lungs.rules import Rules
from nodule_lightning.lungs.settings import LEAKS, ONE_LUNG, PIECES, SLICES, UNEQUAL

_LUNG_SHARE, _MARGIN_MM = 0.1, 12.0


def join_pieces(rules: Rules) -> Rules:
    """Binarise at -150 HU: diffuse disease is denser than -600 HU, and cuts the lungs to pieces."""
    return replace(rules, threshold_hu=-150.0)


def clear_other_slices(rules: Rules) -> Rules:
    """Look in the slices that hold lung alone: in the head, the airway is open to the room; bowel holds gas too."""
    return replace(rules, only_lung_slices=True)


def allow_unequal(rules: Rules) -> Rules:
    """Accept a small lung: 1500 mm2 and 92 mm in place of 6000 mm2 and 62 mm."""
    return replace(rules, min_slice_mm2=1500.0, max_distance_mm=92.0)


def close_leaks(rules: Rules) -> Rules:
    """Let no air pass that is at most two voxels wide: a thin chest wall, or gas under the skin, opens a lung."""
    return replace(rules, close_leaks=True)


def allow_one_lung(rules: Rules) -> Rules:
    """Accept a single lung, and what little air the other side holds: it is filled with fluid, or was removed."""
    return replace(rules, one_lung=True, min_volume_l=rules.min_volume_l / 2)


CURES: Final[dict[str, Callable[[Rules], Rules]]] = {
    PIECES: join_pieces,
    SLICES: clear_other_slices,
    UNEQUAL: allow_unequal,
    LEAKS: close_leaks,
    ONE_LUNG: allow_one_lung,
}


def attempts(cures: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Say what is tried: no cure, each alone, then several together; a single lung is believed last of all.

    >>> list(attempts(("slices", "one_lung")))
    [(), ('slices',), ('one_lung',), ('slices', 'one_lung')]
    """
    others = [name for name in cures if name != ONE_LUNG]
    several = [chosen for count in range(len(others) + 1) for chosen in combinations(others, count)]
    yield from several
    if ONE_LUNG in cures:
        yield from ((*chosen, ONE_LUNG) for chosen in several)


def keep_lung_slices(air: Mask, grid: Grid, body: Body) -> Mask:
    """Clear the slices above and below the lungs: those with much less air inside the body than the fullest one.

    The slices of the lungs are found by the air inside the body of each slice alone, so a connection to the room
    elsewhere does not mislead.
    """
    held = (air & body.inside).sum(axis=(1, 2))
    if not held.any():
        return air
    middle = _fullest(held, max(1, round(60 * body.scale / grid.spacing_zyx_mm[0])))
    is_lung = held > _LUNG_SHARE * held[middle]
    above, below = np.flatnonzero(~is_lung[middle:]), np.flatnonzero(~is_lung[middle::-1])
    margin = int(np.ceil(_MARGIN_MM * body.scale / grid.spacing_zyx_mm[0]))
    stop = min(len(air), middle + int(above[0]) + margin) if len(above) else len(air)
    start = max(0, middle - int(below[0]) + 1 - margin) if len(below) else 0
    cleared = np.zeros_like(air)
    cleared[start:stop] = air[start:stop]
    return cleared


def _fullest(held: np.ndarray, width: int) -> int:
    """Give the slice around which most air is held: a single slice may be full of bowel gas."""
    total = np.convolve(held, np.ones(min(width, len(held))), mode="same")
    return int(np.argmax(total))
