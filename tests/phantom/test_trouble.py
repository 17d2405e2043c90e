"""Kinds of trouble: each shows what it promises, and its ground truth is correct."""

from dataclasses import replace
from functools import cache

import cc3d
import edt
import numpy as np
import pytest
from scipy import ndimage

from nodule_lightning.errors import InputError
from nodule_lightning.lungs.segmentation import segment_lungs
from nodule_lightning.lungs.settings import EVERY_CURE, LEAKS, SLICES, LungSettings
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.trouble import TROUBLES, draw_trouble
from nodule_lightning.phantom.truth import Phantom
from nodule_lightning.preparation.quality import check_scan
from tests.phantom.small import ADULT

SMALL = replace(ADULT, body_scale=(0.6, 0.66), pixel_mm=(1.7, 1.8), slice_mm=(1.7, 1.9))


@cache
def phantom(kind: str, index: int = 0) -> Phantom:
    return make_phantom(ADULT, 1, index, kind)


def volumes_l(made: Phantom) -> list[float]:
    """Measure the right and the left lung, at any stored order of the axes."""
    grid = made.scan.grid
    x = grid.to_world(np.argwhere(made.lungs).astype(float))[:, 0]
    middle = grid.to_world((np.array([grid.shape], dtype=float) - 1) / 2)[0, 0]
    litres = np.prod(grid.spacing_zyx_mm) / 1e6
    return [float(np.count_nonzero(side) * litres) for side in (x < middle, x > middle)]


def lung_heights_mm(made: Phantom) -> tuple[float, float]:
    """Return how far the scan extends below and above the lungs."""
    slices = np.flatnonzero(made.lungs.any(axis=(1, 2)))
    step = made.scan.grid.spacing_zyx_mm[0]
    return float(slices[0] * step), float((len(made.lungs) - 1 - slices[-1]) * step)


def inner_air(made: Phantom) -> np.ndarray:
    air = ndimage.uniform_filter(made.scan.hu.astype(np.float32), (1, 3, 3)) < -600
    labels = cc3d.connected_components(np.pad(air, ((0, 0), (1, 1), (1, 1)), constant_values=True), connectivity=6)
    inner: np.ndarray = ((labels != labels[0, 0, 0]) & (labels > 0))[:, 1:-1, 1:-1]
    return inner


@pytest.mark.parametrize("kind", ["", *TROUBLES])
def test_the_truth_holds(kind: str) -> None:
    made = phantom(kind)
    assert made.lungs.shape == made.nodule_labels.shape == made.scan.hu.shape == made.scan.grid.shape
    assert np.array_equal(np.unique(made.nodule_labels), np.arange(4))
    assert len(made.nodules) == 3
    assert -950 < np.median(made.scan.hu[made.lungs]) < (-350 if kind == "diffuse" else -750)
    depth_mm = edt.edt(~made.lungs, anisotropy=made.scan.grid.spacing_zyx_mm)
    places = np.rint(made.scan.grid.to_index(made.nodules.centre_xyz_mm)).astype(int)
    for number, (place, diameter_mm) in enumerate(zip(places, made.nodules.diameter_mm, strict=True), start=1):
        assert depth_mm[tuple(place)] < 4
        middle = np.argwhere(made.nodule_labels == number).mean(axis=0)
        away_mm = np.linalg.norm((middle - place) * made.scan.grid.spacing_zyx_mm)
        assert away_mm < 2.5 + 0.15 * diameter_mm, (number, diameter_mm)


def test_without_trouble_the_lungs_are_alike_and_fill_the_scan() -> None:
    right, left = volumes_l(phantom(""))
    assert 1.2 < right < 3
    assert 0.7 < right / left < 1.4
    assert max(lung_heights_mm(phantom(""))) < 60


def test_a_scan_may_begin_at_the_head() -> None:
    below, above = lung_heights_mm(phantom("head"))
    assert above > 180
    assert below < 60
    outside = inner_air(phantom("head")) & ~phantom("head").lungs
    top = int(np.flatnonzero(phantom("head").lungs.any(axis=(1, 2)))[-1])
    # Throat, mouth and sinuses, far above the lungs; and a skull.
    assert np.count_nonzero(outside[top + 40 :]) > 100
    assert (phantom("head").scan.hu[top + 60 :] > 500).sum() > 500


@pytest.mark.parametrize("settings", [ADULT, SMALL], ids=["adult", "small"])
@pytest.mark.parametrize("index", [0, 1])
def test_mouth_and_nose_are_open_so_a_head_needs_the_cure_of_the_slices(settings: PhantomSettings, index: int) -> None:
    scan = make_phantom(settings, 1, index, "head").scan
    assert segment_lungs(scan, LungSettings()).cures == (SLICES,)
    # In a small body the main bronchi are about two voxels wide, so that leak may be closed there.
    others = tuple(name for name in EVERY_CURE if name not in (SLICES, LEAKS))
    assert not segment_lungs(scan, LungSettings(cures=others)).found


@pytest.mark.parametrize("index", range(3))
def test_a_head_grows_out_of_the_neck_without_a_jump(index: int) -> None:
    thin = replace(ADULT, slice_mm=(1.5, 1.8), nodule_counts=(1,))
    assert check_scan(make_phantom(thin, 1, index, "head").scan)["gaps"] == []


def test_a_scan_may_run_into_the_abdomen_with_gas() -> None:
    below, above = lung_heights_mm(phantom("abdomen"))
    assert below > 160
    assert above < 60
    bottom = int(np.flatnonzero(phantom("abdomen").lungs.any(axis=(1, 2)))[0])
    gas = inner_air(phantom("abdomen"))[: bottom - 3]
    parts = cc3d.connected_components(gas, connectivity=26)
    assert np.sum(np.bincount(parts.ravel())[1:] > 30) >= 3


def test_lungs_may_be_very_unequal() -> None:
    small, large = sorted(volumes_l(phantom("unequal")))
    assert 0.1 < small / large < 0.45
    sides = {draw_trouble("unequal", 1, index).small_lung for index in range(8)}
    assert sides == {-1, 1}


def test_fluid_leaves_a_part_of_one_lung_that_holds_air() -> None:
    made = phantom("fluid")
    small, large = sorted(volumes_l(made))
    assert 0.03 < small / large < 0.5
    x = np.argwhere(made.lungs)[:, 2] > made.lungs.shape[2] / 2
    filled_is_left = np.count_nonzero(x) < len(x) / 2
    mirrored = made.lungs[:, :, ::-1] & ~made.lungs
    half = made.lungs.shape[2] // 2
    fluid = mirrored[:, 30:-30, half + 12 :] if filled_is_left else mirrored[:, 30:-30, : half - 12]
    hu = made.scan.hu[:, 30:-30, half + 12 :] if filled_is_left else made.scan.hu[:, 30:-30, : half - 12]
    assert -20 < np.median(hu[fluid]) < 60


def test_diffuse_disease_cuts_the_lungs_to_pieces_at_minus_600_alone() -> None:
    made = phantom("diffuse")
    largest = {}
    for threshold_hu in (-600, -150):
        air = (ndimage.gaussian_filter(made.scan.hu.astype(np.float32), 0.5) < threshold_hu) & made.lungs
        sizes = np.bincount(cc3d.connected_components(air, connectivity=6).ravel())[1:]
        largest[threshold_hu] = np.sort(sizes)[-2:].sum() / made.lungs.sum()
    assert largest[-600] < 0.35
    assert largest[-150] > 0.85


def test_arms_lie_beside_the_body_on_a_wide_table() -> None:
    made = phantom("arms")
    middle = len(made.lungs) // 3
    tissue = ndimage.label(made.scan.hu[middle] > -300)[0]
    sizes = np.sort(np.bincount(tissue.ravel())[1:] * np.prod(made.scan.grid.spacing_zyx_mm[1:]))
    # The body, the two arms cut off by the field of view, and the shells of the table.
    assert np.sum(sizes > 1500) >= 4
    assert made.scan.grid.spacing_zyx_mm[1] * 128 > 440
    # The table reaches beyond the field of view, and has two shells with foam as airy as a lung between them.
    profile = {kind: phantom(kind).scan.hu[middle, 64:, 64].astype(int) for kind in ("", "arms")}
    shells = {kind: np.flatnonzero(np.diff((values > -600).astype(int)) == 1) for kind, values in profile.items()}
    assert len(shells[""]) == 1
    assert len(shells["arms"]) == 2
    foam = profile["arms"][shells["arms"][0] + 4 : shells["arms"][1] - 1]
    assert -960 < np.median(foam) < -900
    row = 64 + shells["arms"][0] + 1
    assert (made.scan.hu[middle, row : row + 3, 30:-30] > -700).any(axis=0).all()


def test_axes_may_run_against_the_world_and_nothing_moves() -> None:
    directions = set()
    for index in range(4):
        made = phantom("flipped", index)
        directions.add(made.scan.grid.direction)
        assert -1.0 in made.scan.grid.direction
        # The mask turns with the scan: no denser than lungs are at their surface.
        assert np.mean(made.scan.hu[made.lungs] > -500) < 0.06
        x, y, z = made.scan.grid.corners_xyz_mm().mean(axis=0)
        lungs = made.scan.grid.to_world(np.argwhere(made.lungs).astype(float))
        # The spine, the densest structure in the middle, is at the back; the lungs are narrower at the top.
        bone = made.scan.grid.to_world(np.argwhere(made.scan.hu > 150).astype(float))
        near = np.abs(bone[:, 0] - x) < 12
        assert np.median(bone[near, 1]) > y + 30
        top, base = lungs[lungs[:, 2] > z + 80], lungs[lungs[:, 2] < z - 40]
        assert len(top) < len(base)
    assert len(directions) == 4


def test_a_slice_may_have_768_pixels_a_side() -> None:
    made, plain = phantom("wide_matrix"), phantom("")
    assert made.scan.grid.shape[1:] == (768, 768)
    width = [grid.spacing_zyx_mm[1] * grid.shape[1] for grid in (made.scan.grid, plain.scan.grid)]
    assert width[0] == pytest.approx(width[1], rel=0.05)


def test_slices_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = phantom("missing_slices")
    monkeypatch.setattr("nodule_lightning.phantom.scan.drop_slices", lambda whole, _gaps, _generator: whole)
    whole = make_phantom(ADULT, 1, 0, "missing_slices")
    kept = [index for index, plane in enumerate(whole.scan.hu) if (made.scan.hu == plane).all(axis=(1, 2)).any()]
    assert len(kept) == len(made.scan.hu)
    missing = sorted(set(range(len(whole.scan.hu))) - set(kept))
    assert 2 <= len(missing) <= 18
    # They are missing inside the lungs and from no nodule.
    assert whole.lungs[missing].any(axis=(1, 2)).all()
    assert not whole.nodule_labels[missing].any()
    assert {draw_trouble("missing_slices", 1, index).gaps for index in range(12)} == {1, 2, 3}


def test_kinds_share_no_chest_and_repeat_to_the_byte() -> None:
    again = make_phantom(ADULT, 1, 0, "fluid")
    assert np.array_equal(again.scan.hu, phantom("fluid").scan.hu)
    spacings = {phantom(kind).scan.grid.spacing_zyx_mm for kind in ("", *TROUBLES)}
    assert len(spacings) == len(TROUBLES) + 1
    assert phantom("fluid").scan.scan_id == "phantom-1-fluid-0000"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError) as error:
        make_phantom(ADULT, 1, 0, "heads")
    assert error.value.key == "argument-invalid"
    assert "'heads'" in str(error.value)
