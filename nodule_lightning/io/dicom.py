"""DICOM series: which images in a folder belong to one volume, and what is left out."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float64

from nodule_lightning.errors import InputError
from nodule_lightning.io.dicom_headers import Listing, Numbers, Slice, list_images, walk
from nodule_lightning.io.dicom_volume import SAME_PLACE_MM, axes_of, build_volume
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.io.tables import check_scan_id
from nodule_lightning.io.volume_files import Volume

LOCALISER_SLICES: Final = 3
_SAME_COSINE: Final = 2e-3
_FAR_BELOW: Final = 0.6


def read_series(folder: Path, series: str | None = None, reading: ReadingSettings = STRICT) -> tuple[str, Volume]:
    """Read one series into a volume with evenly spaced slices.

    Duplicate slices are taken once. Missing or unevenly spaced slices are interpolated from their true positions. Up
    to three images of another size or direction, in colour or without a place are left out, with a note.

    Args:
        folder: it holds the images, directly or in subfolders.
        series: the scan id of the series; None for the only one with more than three images.
        reading: what to do where images are damaged or contradict each other.

    Returns:
        The scan id, and the volume.

    Raises:
        InputError: there is no such series, or several; its images do not say where they lie, contradict each other
            or are damaged.
    """
    listing = _list(folder, deep=series is not None)
    name, slices = _pick(folder, listing, series)
    notes = [*_count_unreadable(folder, slices, listing, reading)]
    slices, left_out = _keep_placed(folder, slices)
    slices, others = _keep_one_plane(folder, slices, reading)
    slices, passes = _keep_one_pass(folder, slices, reading)
    notes += [*left_out, *others, *passes]
    volume = build_volume(folder, slices, reading)
    return check_scan_id(name), Volume(
        volume.values, volume.axes_xyz_mm, volume.origin_xyz_mm, (*notes, *volume.notes), volume.owner
    )


def scan_id_of(series: str) -> str:
    """Return the scan id of a series; empty if its UID is none."""
    try:
        return check_scan_id(series)
    except InputError:
        return ""


def _list(folder: Path, *, deep: bool) -> Listing:
    try:
        direct = list_images(sorted(path for path in folder.iterdir() if _is_visible_file(path)))
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}", "file-unreadable") from None
    subfolders = [parent / name for parent, _, names in walk(folder, []) for name in names if parent != folder]
    if not subfolders or (direct.slices and not deep):
        return direct
    below = list_images(subfolders)
    return Listing(direct.slices + below.slices, direct.unreadable + below.unreadable, direct.unopened + below.unopened)


def _is_visible_file(path: Path) -> bool:
    return not path.name.startswith(".") and not path.is_dir()


def _pick(folder: Path, listing: Listing, series: str | None) -> tuple[str, list[Slice]]:
    every = listing.by_series()
    groups = {name: images for name, images in every.items() if len(images) > LOCALISER_SLICES} or every
    if series is not None:
        by_id = {name: scan_id_of(name) for name in every}
        # What no id names is read to say why.
        groups = {name: every[name] for name, scan_id in by_id.items() if scan_id in (series, "")}
        groups = {name: images for name, images in groups.items() if by_id[name]} or groups
    if not groups and listing.unreadable:
        raise InputError(
            f"{folder}: none of its {len(listing.unreadable)} images can be read; copy them again", "file-damaged"
        )
    if not groups:
        raise InputError(f"{folder} holds no DICOM series and is no scan file", "file-missing")
    if len(groups) > 1:
        listed = ", ".join(f"{name} ({len(images)} slices)" for name, images in every.items())
        raise InputError(
            f"{folder} holds several DICOM series: {listed}; put one in a folder of its own and pass that",
            "argument-invalid",
        )
    name, slices = next(iter(groups.items()))
    if not scan_id_of(name):
        raise InputError(
            f"{folder}: its images have no valid SeriesInstanceUID or StudyInstanceUID; give them one", "scan-invalid"
        )
    return name, slices


def _count_unreadable(
    folder: Path, slices: Sequence[Slice], listing: Listing, reading: ReadingSettings
) -> Iterator[str]:
    folders, files = {image.file.parent for image in slices}, {image.file for image in slices}
    if bad := [file for file in listing.unreadable if file.parent in folders]:
        fault = f"{len(bad)} of {len(files) + len(bad)} files cannot be read"
        yield reading.doubt(folder, fault, f", such as {bad[0].name}")
    if unopened := [file for file in listing.unopened if file.parent in folders]:
        yield f"{len(unopened)} files beside the images cannot be opened, such as links to nowhere"


def _keep_placed(folder: Path, slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Keep the grey images that say where they lie."""
    kept, notes = list(slices), []
    for what, suits in _NEEDED:
        left = [image for image in kept if suits(image)]
        lacking = len(kept) - len(left)
        if lacking > min(LOCALISER_SLICES, len(left)):
            raise InputError(
                f"{folder}: {lacking} of {len(slices)} images {what}; export the series again", "scan-invalid"
            )
        if lacking:
            notes.append(f"{lacking} of {len(slices)} images were left out: they {what}")
        kept = left
    return kept, notes


def _is_finite(numbers: Numbers) -> bool:
    return all(map(math.isfinite, numbers))


_NEEDED: Final[tuple[tuple[str, Callable[[Slice], bool]], ...]] = (
    ("are in colour", lambda image: image.shape[2] == 1),
    ("have no readable ImagePositionPatient", lambda image: _is_finite(image.position_xyz_mm)),
    ("have no readable ImageOrientationPatient", lambda image: _is_finite(image.orientation)),
    ("have no readable PixelSpacing", lambda image: min(image.spacing_yx_mm) > 0),
)


def _keep_one_plane(folder: Path, slices: Sequence[Slice], reading: ReadingSettings) -> tuple[list[Slice], list[str]]:
    """Keep the largest group of images with the same size, direction and spacing."""
    groups: list[list[Slice]] = []
    for image in slices:
        group = next((group for group in groups if _is_same_plane(group[0], image)), None)
        if group is None:
            groups.append(group := [])
        group.append(image)
    groups.sort(key=len, reverse=True)
    others = sum(map(len, groups[1:]))
    if not others:
        return groups[0], []
    if others <= LOCALISER_SLICES:
        return groups[0], [f"{others} slices of another size or direction were left out"]
    listed = ", ".join(f"{len(group)} {_described(group[0])}" for group in groups)
    return groups[0], [reading.doubt(folder, f"one series holds images of several kinds: {listed}")]


def _keep_one_pass(folder: Path, slices: Sequence[Slice], reading: ReadingSettings) -> tuple[list[Slice], list[str]]:
    """Keep the largest of several passes over the same place."""
    normal = axes_of(folder, slices[0])[:, 2]
    passes: dict[tuple[str, str], list[Slice]] = {}
    for image in slices:
        passes.setdefault(image.acquisition, []).append(image)
    depths = [np.sort([image.position_xyz_mm for image in images] @ normal) for images in passes.values()]
    kept, notes = list(slices), []
    if any(_overlap(one, other) > LOCALISER_SLICES for one, other in combinations(depths, 2)):
        counts = " and ".join(str(len(images)) for images in passes.values())
        fault = f"one series holds several passes over one place (AcquisitionNumber), of {counts} slices"
        notes.append(reading.doubt(folder, fault))
        kept = max(passes.values(), key=len)
    if is_interleaved(np.sort([image.position_xyz_mm for image in kept] @ normal)):
        fault = "its slices lie close together and far apart by turns, as of several passes in one series"
        notes.append(reading.doubt(folder, fault))
    return kept, notes


def _is_same_plane(one: Slice, other: Slice) -> bool:
    return (
        one.shape == other.shape
        and np.allclose(one.orientation, other.orientation, rtol=0, atol=_SAME_COSINE)
        and np.allclose(one.spacing_yx_mm, other.spacing_yx_mm, rtol=1e-3, atol=0)
    )


def _described(image: Slice) -> str:
    rows, columns, _ = image.shape
    spacing = " x ".join(f"{step:g}" for step in image.spacing_yx_mm)
    return f"of {rows}x{columns} pixels of {spacing} mm"


def _overlap(one: Float64[np.ndarray, "n"], other: Float64[np.ndarray, "m"]) -> int:
    """Count the slices of one pass that lie within another."""
    return min(int(((low[0] <= high) & (high <= low[-1])).sum()) for low, high in ((one, other), (other, one)))


def is_interleaved(depth_mm: Float64[np.ndarray, "slice"]) -> bool:
    """Recognise slices of two passes: their distances are small and large by turns.

    Args:
        depth_mm: ascending positions along the normal.
    """
    gaps = np.diff(depth_mm)
    gaps = gaps[gaps > SAME_PLACE_MM]
    if len(gaps) < 2 * LOCALISER_SLICES:
        return False
    before, own, after = gaps[:-2], gaps[1:-1], gaps[2:]
    small = (own < _FAR_BELOW * before) & (own < _FAR_BELOW * after)
    return int(small.sum()) > max(LOCALISER_SLICES, len(gaps) // 5)
