"""DICOM series: which images in a folder belong to one volume, and what is left out."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from nodule_lightning.errors import InputError
from nodule_lightning.io.dicom_headers import Listing, Numbers, Slice, list_images
from nodule_lightning.io.dicom_passes import keep_one_pass
from nodule_lightning.io.dicom_volume import build_volume
from nodule_lightning.io.files import walk
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.io.tables import check_scan_id
from nodule_lightning.io.volume_files import Volume

LOCALISER_SLICES: Final = 3
UNREADABLE: Final = "unreadable-"
# Of cosines, and of the pixel distance as a share: 0.05 mm at the far side of a slice.
_SAME_PLANE: Final = 1e-4


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
    slices, foreign = _keep_one_source(folder, slices, reading)
    slices, passes = keep_one_pass(folder, slices, reading)
    notes += [*left_out, *others, *foreign, *passes]
    volume = build_volume(folder, slices, reading)
    return check_scan_id(name), Volume(
        volume.values, volume.axes_xyz_mm, volume.origin_xyz_mm, (*notes, *volume.notes), volume.owner
    )


def volumes(listing: Listing) -> dict[str, list[Slice]]:
    """Group images by series, without localisers: series of at most three, unless there are no others."""
    groups = listing.by_series()
    return {name: images for name, images in groups.items() if len(images) > LOCALISER_SLICES} or groups


def _list(folder: Path, *, deep: bool) -> Listing:
    try:
        direct = list_images(sorted(path for path in folder.iterdir() if _is_visible_file(path)))
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}", "file-unreadable") from None
    unlisted: list[Path] = []
    subfolders = [parent / name for parent, _, names in walk(folder, unlisted) for name in names if parent != folder]
    below = list_images(subfolders)
    below.unopened.extend(unlisted)
    own = direct.by_series()
    if own and not deep:
        # The rest of a series may lie in a subfolder; other series there do not concern this one.
        below = Listing([image for image in below.slices if image.series in own], below.unreadable, below.unopened)
    return Listing(direct.slices + below.slices, direct.unreadable + below.unreadable, direct.unopened + below.unopened)


def _is_visible_file(path: Path) -> bool:
    return not path.name.startswith(".") and not path.is_dir()


def _pick(folder: Path, listing: Listing, series: str | None) -> tuple[str, list[Slice]]:
    groups = volumes(listing)
    if series is not None:
        groups = {name: images for name, images in listing.by_series().items() if _is_named(name, series)}
    if not groups and listing.unreadable:
        raise InputError(
            f"{folder}: none of its {len(listing.unreadable)} images can be read; copy them again", "file-damaged"
        )
    if not groups:
        raise InputError(f"{folder} holds no DICOM series and is no scan file", "file-missing")
    if len(groups) > 1:
        listed = ", ".join(f"{name} ({len(images)} slices)" for name, images in listing.by_series().items())
        raise InputError(
            f"{folder} holds several DICOM series: {listed}; put one in a folder of its own and pass that",
            "argument-invalid",
        )
    name, slices = next(iter(groups.items()))
    if not name:
        raise InputError(
            f"{folder}: its images have neither a SeriesInstanceUID nor a StudyInstanceUID; give them one",
            "scan-invalid",
        )
    return name, slices


def _is_named(name: str, scan_id: str) -> bool:
    """Compare the UID of a series with a scan id; a UID that is none belongs to what `find_scans` calls unreadable."""
    try:
        return check_scan_id(name) == scan_id
    except InputError:
        return scan_id.startswith(UNREADABLE)


def _count_unreadable(
    folder: Path, slices: Sequence[Slice], listing: Listing, reading: ReadingSettings
) -> Iterator[str]:
    folders, files = {image.file.parent for image in slices}, {image.file for image in slices}
    if bad := [file for file in listing.unreadable if file.parent in folders]:
        fault = f"{len(bad)} of {len(files) + len(bad)} files cannot be read"
        yield reading.doubt(folder, fault, f", such as {bad[0].name}")
    if unopened := [file for file in listing.unopened if file.parent in folders]:
        yield f"{len(unopened)} files or folders beside the images cannot be opened, such as links to nowhere"


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
    ("have no readable PixelSpacing", lambda image: _is_finite(image.spacing_yx_mm) and min(image.spacing_yx_mm) > 0),
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


def _keep_one_source(folder: Path, slices: Sequence[Slice], reading: ReadingSettings) -> tuple[list[Slice], list[str]]:
    """Keep the largest group of images of one study and one frame of reference: UIDs may stand for several scans."""
    counts = Counter(image.source for image in slices).most_common()
    if len(counts) == 1:
        return list(slices), []
    listed = " and ".join(str(count) for _, count in counts)
    fault = (
        f"{listed} images bear one id but are of several studies or frames of reference, or of no series in several "
        "folders"
    )
    return [image for image in slices if image.source == counts[0][0]], [reading.doubt(folder, fault)]


def _is_same_plane(one: Slice, other: Slice) -> bool:
    return (
        one.shape == other.shape
        and (one.frame is None) == (other.frame is None)
        and np.allclose(one.orientation, other.orientation, rtol=0, atol=_SAME_PLANE)
        and np.allclose(one.spacing_yx_mm, other.spacing_yx_mm, rtol=_SAME_PLANE, atol=0)
    )


def _described(image: Slice) -> str:
    rows, columns, _ = image.shape
    spacing = " x ".join(f"{step:g}" for step in image.spacing_yx_mm)
    return f"of {rows}x{columns} pixels of {spacing} mm"
