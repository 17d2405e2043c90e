"""Appearance and positions of nodules and of their imitations."""

from dataclasses import replace
from functools import partial

import cc3d
import edt
import numpy as np
import pytest
from scipy import ndimage

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.phantom import imitations
from nodule_lightning.phantom.canvas import Canvas
from nodule_lightning.phantom.nodules import Nodule, draw_nodule, paint_nodule
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.truth import label_nodules
from tests.phantom.small import ADULT

CENTRE = np.array([20.0, 20.0, 20.0])


def blank() -> Canvas:
    return Canvas.blank(Grid((81, 81, 81), (0.5, 0.5, 0.5)), -850.0)


def painted(nodule: Nodule, seed: int = 0) -> tuple[Canvas, Canvas]:
    canvas = blank()
    return canvas, paint_nodule(canvas, CENTRE, nodule, np.random.default_rng(seed))


@pytest.mark.parametrize("lobulation", [0.08, 0.35, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_a_nodule_of_any_shape_has_the_stated_volume(lobulation: float, seed: int) -> None:
    _, share = painted(Nodule(14.0, "solid", "free", lobulation), seed)
    assert share.hu.sum() * 0.5**3 == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.04)


def test_the_density_depends_on_the_kind() -> None:
    middle = {}
    rim = {}
    for kind in ("solid", "part_solid", "ground_glass"):
        canvas, share = painted(Nodule(14.0, kind, "free", 0.08))
        z, y, x = (40,) * 3
        middle[kind] = canvas.hu[z, y, x]
        inside = np.zeros(canvas.hu.shape, dtype=bool)
        low = [int(np.searchsorted(canvas.z_mm, axis[0])) for axis in (share.z_mm, share.y_mm, share.x_mm)]
        part = tuple(slice(start, start + size) for start, size in zip(low, share.hu.shape, strict=True))
        inside[part] = share.hu > 0.99
        rim[kind] = np.median(canvas.hu[inside & ~ndimage.binary_erosion(inside, iterations=2)])
    assert -60 < middle["solid"] < 90
    assert -60 < middle["part_solid"] < 90
    assert -640 < middle["ground_glass"] < -400
    assert rim["solid"] > -60
    assert -640 < rim["part_solid"] < -400


def test_a_lobulated_surface_swells_and_dips() -> None:
    reach = {}
    for lobulation in (0.0, 0.6):
        _, share = painted(Nodule(16.0, "solid", "free", lobulation), seed=3)
        z, y, x = share.coordinates
        away = np.sqrt((x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2)[share.hu > 0.5]
        outside = np.sqrt((x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2)[share.hu < 0.5]
        reach[lobulation] = float(away.max() - outside.min())
    assert reach[0.6] > reach[0.0] + 2


def test_all_kinds_shapes_and_places_are_drawn_in_their_shares() -> None:
    settings = PhantomSettings(nodule_kinds=(0.5, 0.3, 0.2))
    drawn = [draw_nodule(settings, 0, number) for number in range(400)]
    large = [nodule for nodule in drawn if nodule.diameter_mm >= 6]
    assert np.mean([nodule.kind == "part_solid" for nodule in large]) == pytest.approx(0.3, abs=0.07)
    for place, share in zip(("free", "vessel", "pleura", "mediastinum"), settings.nodule_places, strict=True):
        assert np.mean([nodule.place == place for nodule in drawn]) == pytest.approx(share, abs=0.07)
    assert {nodule.lobulation for nodule in drawn} == {0.08, 0.25, 0.6}


@pytest.mark.parametrize("place", ["free", "vessel", "pleura", "mediastinum"])
def test_a_nodule_lies_where_it_is_said_to(place: str) -> None:
    places = ("free", "vessel", "pleura", "mediastinum")
    shares = tuple(float(place == name) for name in places)
    settings = PhantomSettings(
        matrix=176,
        pixel_mm=(0.95, 0.96),
        slice_mm=(1.0, 1.1),
        body_scale=(0.45, 0.46),
        vessel_ends=300,
        noise_hu=(5, 6),
        nodule_counts=(0, 0, 0, 0, 0, 1),
        nodule_places=(shares[0], shares[1], shares[2], shares[3]),
        imitations=(0, 0),
        anatomical_imitations=(0, 0),
        largest_diameter_mm=10,
    )
    made = make_phantom(settings, 3, 0)
    bare = make_phantom(replace(settings, nodule_counts=(1,)), 3, 0)
    spacing = made.scan.grid.spacing_zyx_mm
    to_wall_mm = edt.edt(made.lungs, anisotropy=spacing)
    vessel = made.lungs & (bare.scan.hu > -600) & (to_wall_mm > 4)
    to_vessel_mm = edt.edt(~vessel, anisotropy=spacing)
    index = np.rint(made.scan.grid.to_index(made.nodules.centre_xyz_mm)).astype(int)
    wall_mm, vessel_mm = (distance[tuple(index.T)] for distance in (to_wall_mm, to_vessel_mm))
    middle_x = made.scan.grid.corners_xyz_mm()[:, 0].mean()
    aside_mm = np.abs(made.nodules.centre_xyz_mm[:, 0] - middle_x)
    radius_mm = made.nodules.diameter_mm / 2
    if place in ("pleura", "mediastinum"):
        assert (wall_mm < radius_mm + 1.5).all()
        assert ((aside_mm < 28) == (place == "mediastinum")).all()
    elif place == "vessel":
        assert np.mean(vessel_mm < radius_mm + 0.5) >= 0.8
    else:
        assert (wall_mm > radius_mm).all()
        assert (vessel_mm > radius_mm - 0.5).all()


def test_the_smallest_nodule_in_the_thickest_slice_has_a_voxel() -> None:
    canvas = Canvas.blank(Grid((24, 40, 40), (1.25, 0.9, 0.9)), -850.0)
    share = paint_nodule(
        canvas, np.array([17.9, 17.9, 14.5]), Nodule(2.5, "solid", "free", 0.08), np.random.default_rng(0)
    )
    labels = label_nodules(canvas, [share], fine_per_slice=4)
    assert labels.shape == (6, 40, 40)
    assert 1 <= np.count_nonzero(labels) <= 3
    assert np.abs(np.argwhere(labels)[0] - [2.7, 19.9, 19.9]).max() <= 1


def test_a_vessel_crossing_is_two_strands() -> None:
    canvas = blank()
    imitations.paint_crossing(canvas, CENTRE, np.random.default_rng(0), blood_hu=50.0)
    dense = canvas.hu > -300
    labels, count = cc3d.connected_components(dense, connectivity=26, return_N=True)
    assert count == 1
    z, y, x = np.nonzero(dense)
    away_mm = np.sqrt((z - 40.0) ** 2 + (y - 40.0) ** 2 + (x - 40.0) ** 2) * 0.5
    # Four ends stick out of the knot in the middle.
    far = np.zeros_like(dense)
    far[z[away_mm > 5], y[away_mm > 5], x[away_mm > 5]] = True
    assert cc3d.connected_components(far, connectivity=26).max() == 4
    assert labels.max() == 1


def test_a_bronchus_end_on_is_a_ring_in_the_slice_or_a_plugged_dot() -> None:
    middles = []
    for seed in range(12):
        canvas = blank()
        imitations.paint_bronchus_end_on(canvas, CENTRE, np.random.default_rng(seed), blood_hu=50.0)
        around = ndimage.binary_fill_holes(canvas.hu[40] > -600)
        assert 4 < np.count_nonzero(around) * 0.25 < 90
        # It continues through slices in which a nodule of its width would have ended.
        assert (canvas.hu[30] > -600).any()
        assert (canvas.hu[50] > -600).any()
        middles.append(canvas.hu[40, 40, 40])
    assert sum(value < -700 for value in middles) >= 4
    assert sum(value > -300 for value in middles) >= 1


def test_a_rib_end_is_bone_that_leads_out_of_the_lung() -> None:
    canvas = Canvas.blank(Grid((81, 81, 81), (0.5, 0.5, 0.5), (80.0, -20.0, -20.0)), -850.0)
    imitations.paint_rib_end(canvas, np.array([100.0, 0.0, 0.0]), np.random.default_rng(0))
    assert canvas.hu[40, 40, 40] > 120
    outwards, inwards = canvas.hu[40, 40, 56], canvas.hu[40, 40, 24]
    assert outwards > 120
    assert inwards == -850


@pytest.mark.parametrize("paint", [imitations.paint_granuloma, imitations.paint_scar])
def test_granulomas_are_calcified_and_scars_are_not_round(paint: imitations.Painter) -> None:
    canvas = blank()
    paint(canvas, CENTRE, np.random.default_rng(1))
    dense = np.argwhere(canvas.hu > -400) * 0.5
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(dense.T)))
    if paint is imitations.paint_granuloma:
        assert canvas.hu.max() > 250
        assert spread[2] / spread[0] < 1.2
    else:
        assert canvas.hu.max() < 100
        assert spread[2] / spread[0] > 2


def test_imitations_come_in_the_number_asked_for_and_are_no_nodules() -> None:
    def count(lesions: int, anatomy: int) -> tuple[int, float]:
        bare = make_phantom(replace(ADULT, imitations=(0, 0), anatomical_imitations=(0, 0)), 5, 0)
        wanted = replace(ADULT, imitations=(lesions, lesions), anatomical_imitations=(anatomy, anatomy))
        made = make_phantom(wanted, 5, 0)
        assert np.array_equal(made.nodules.centre_xyz_mm, bare.nodules.centre_xyz_mm)
        assert np.array_equal(made.nodule_labels, bare.nodule_labels)
        return len(made.excluded), float(np.count_nonzero(made.scan.hu - bare.scan.hu > 150))

    assert count(0, 0) == (0, 0.0)
    # Granulomas and micronodules are listed; scars, plaques and normal anatomy are not.
    listed, voxels = count(2, 0)
    assert listed == 4
    assert voxels > 10
    listed, voxels = count(0, 2)
    assert listed == 0
    assert voxels > 30


def test_too_many_nodules_for_a_mask_are_refused() -> None:
    with pytest.raises(InputError) as error:
        PhantomSettings(nodule_counts=(0.0,) * 300)
    assert error.value.key == "argument-invalid"
    assert "300" in str(error.value)


def test_painters_are_deterministic() -> None:
    for imitation in (*imitations.lesions(), *imitations.anatomical_mimics(40.0)):
        first, second = blank(), blank()
        for canvas in (first, second):
            partial(imitation.paint, canvas, CENTRE, np.random.default_rng(2))()
        assert np.array_equal(first.hu, second.hu)
        assert (first.hu != -850).any()
