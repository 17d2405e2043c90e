"""Hounsfield units from stored values: offsets that a file does not mention, padding, NaN."""

from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int16, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.io.settings import ReadingSettings
from nodule_lightning.structures import AIR_HU

_USUAL_OFFSET: Final = 1024
_LIKE_TISSUE: Final = (824, 1324)
_LIKE_BONE: Final = (324, 824)
_LOWEST_AIR_HU: Final = -1300
# So few voxels say nothing; of so many, a part tells as much.
_FEWEST: Final = 1000
_MANY: Final = 10**6


def choose_offset(
    path: Path, values: Shaped[np.ndarray, "z y x"], reading: ReadingSettings, *, may_be_offset: bool
) -> tuple[int, tuple[str, ...]]:
    """Choose what is added to stored values to give HU, and check what results before padding is clipped.

    Args:
        path: the scan, for messages.
        values: the stored values.
        reading: with the offset, if the user gives one.
        may_be_offset: False if the format itself defines HU, as DICOM does.

    Returns:
        The offset, and the doubts that remain.

    Raises:
        InputError: no value is a number, or the values do not look like HU and reading is strict.
    """
    notes = _odd_numbers(path, values)
    if reading.offset_hu is None and may_be_offset and looks_offset(values):
        corrected = f"these look like counts, not HU, and were corrected by {-_USUAL_OFFSET}"
        return -_USUAL_OFFSET, (*notes, f"{corrected}; reading.offset_hu=0 takes them as they are")
    offset_hu = reading.offset_hu
    fault = describe_counts(values) if offset_hu is None else _describe_shifted(values, offset_hu)
    return offset_hu or 0, notes if fault is None else (*notes, reading.doubt(path, fault))


def to_hu(values: Shaped[np.ndarray, "z y x"], offset_hu: int = 0) -> Int16[np.ndarray, "z y x"]:
    """Convert stored values to Hounsfield units; what is below -1024 HU, NaN or infinite becomes air.

    Args:
        values: the stored values, of any dtype.
        offset_hu: added to the values.
    """
    if values.dtype == np.int16 and not offset_hu:
        return np.asarray(np.maximum(values, np.int16(AIR_HU)))
    hu = np.empty(values.shape, dtype=np.int16)
    # Slice by slice, so that the whole scan is never held in a wider dtype.
    for source, target in zip(values, hu, strict=True):
        plane = source.astype(np.float32)
        plane[~np.isfinite(plane)] = AIR_HU - offset_hu
        target[:] = np.rint(plane + offset_hu).clip(AIR_HU, np.iinfo(np.int16).max)
    return hu


def looks_offset(values: Shaped[np.ndarray, "z y x"]) -> bool:
    """Tell whether values are plainly CT with an offset of 1024, as some converters store it without a word.

    Three conditions hold: no value is negative (CT in HU nearly always contains air at -1000); the 1st percentile is
    below 200 (there is air); and at least a tenth of the voxels lie between 824 and 1324 with a median within 100 of
    1024 (fat, water and muscle at -200..300 HU). A true HU volume clipped at zero fails the third condition, because
    hardly any tissue is that dense.
    """
    if np.nanmin(values) < 0:
        return False
    sample = values[::2, ::4, ::4]
    tissue = sample[(sample > _LIKE_TISSUE[0]) & (sample < _LIKE_TISSUE[1])]
    if np.nanpercentile(sample, 1) >= 200 or tissue.size < 0.1 * sample.size:
        return False
    return bool(abs(float(np.median(tissue)) - _USUAL_OFFSET) < 100)


def describe_counts(values: Shaped[np.ndarray, "z y x"]) -> str | None:
    """Say that values look like counts in place of HU; None if they may be HU.

    Padding is left out. In HU, ever fewer voxels are denser than bone; in counts, water, muscle and fat stand near 1024
    and nothing is as low as air. A scan of the body's inside has no air either, but its tissue lies near 0 HU.
    """
    seen = _without_padding(values)
    if seen.size < _FEWEST:
        return None
    low = float(np.percentile(seen, 1))
    if low > _LIKE_TISSUE[0]:
        return f"these look like counts, not HU: hardly a value is below {low:.0f}; give reading.offset_hu"
    tissue = seen[(seen > _LIKE_TISSUE[0]) & (seen < _LIKE_TISSUE[1])]
    bone = int(np.count_nonzero((seen > _LIKE_BONE[0]) & (seen <= _LIKE_BONE[1])))
    if low < -500 or tissue.size < max(0.05 * seen.size, 2 * bone):
        return None
    middle = float(np.median(tissue))
    if abs(middle - _USUAL_OFFSET) >= 100:
        return None
    return f"these look like counts, not HU: tissue lies near {middle:.0f}; give reading.offset_hu=-{_USUAL_OFFSET}"


def _describe_shifted(values: Shaped[np.ndarray, "z y x"], offset_hu: int) -> str | None:
    seen = _without_padding(values)
    low = float(np.percentile(seen, 1)) + offset_hu if seen.size else 0.0
    if low >= _LOWEST_AIR_HU:
        return None
    return f"reading.offset_hu={offset_hu} puts its air at {low:.0f} HU: the values seem to be HU already"


def _without_padding(values: Shaped[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "n"]:
    """Take a sample of the voxels that were scanned: padding lies below all HU, or is the lowest value."""
    sample = values[::2, ::4, ::4] if values.size > _MANY else values
    seen: Shaped[np.ndarray, n] = sample[np.isfinite(sample) & (sample >= AIR_HU)]
    return np.asarray(seen[seen > seen.min()]) if seen.size else seen


def _odd_numbers(path: Path, values: Shaped[np.ndarray, "z y x"]) -> tuple[str, ...]:
    if not np.issubdtype(values.dtype, np.floating):
        return ()
    odd = sum(plane.size - int(np.count_nonzero(np.isfinite(plane))) for plane in values)
    if odd == values.size:
        raise InputError(f"{path}: no voxel holds a number, all are NaN or infinite", "scan-invalid")
    return (f"{odd} of {values.size} voxels are NaN or infinite and were taken as air",) if odd else ()
