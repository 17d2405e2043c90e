"""Phantoms: reproducible by seed, and their ground truth matches what is painted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.phantom import anatomy, beyond
from nodule_lightning.phantom.canvas import Canvas, paint_segment
from nodule_lightning.phantom.nodules import Nodule, draw_nodules, paint_nodule
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.thorax import Thorax
from nodule_lightning.phantom.trees import Tree, grow_tree
from nodule_lightning.phantom.truth import Phantom

SMALL = PhantomSettings(
    matrix=128,
    pixel_mm=(1.0, 1.1),
    slice_mm=(2.0, 2.5),
    body_scale=(0.34, 0.36),
    nodule_counts=(0, 0, 1),
    nodule_kinds=(1, 0, 0),
    vessel_ends=100,
    noise_hu=(10, 12),
)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(SMALL, seed=3, index=1)


def test_same_seed_gives_the_same_scan(phantom: Phantom) -> None:
    again, other = make_phantom(SMALL, seed=3, index=1), make_phantom(SMALL, seed=3, index=2)
    assert np.array_equal(again.scan.hu, phantom.scan.hu)
    assert np.array_equal(again.nodules.centre_xyz_mm, phantom.nodules.centre_xyz_mm)
    assert other.scan.hu.shape != phantom.scan.hu.shape or not np.array_equal(other.scan.hu, phantom.scan.hu)


def test_lungs_are_air_and_their_surroundings_are_not(phantom: Phantom) -> None:
    assert -950 < np.median(phantom.scan.hu[phantom.lungs]) < -750
    assert 0.05 < phantom.lungs.mean() < 0.4
    middle = np.array(phantom.scan.hu.shape) // 2
    assert phantom.scan.hu[middle[0], middle[1], middle[2]] > -200


def test_solid_nodules_are_dense_where_the_findings_say(phantom: Phantom) -> None:
    assert len(phantom.nodules) == 2
    voxels = np.rint(phantom.scan.grid.to_index(phantom.nodules.centre_xyz_mm)).astype(int)
    large = phantom.nodules.diameter_mm > 5
    for z, y, x in voxels[large]:
        assert phantom.scan.hu[z, y, x] > -350


def test_a_painted_nodule_has_the_stated_volume() -> None:
    canvas = Canvas.blank(Grid((60, 60, 60), (0.5, 0.5, 0.5)), -850.0)
    nodule = Nodule(12.0, "solid", "free", 0.0)
    paint_nodule(canvas, np.array([15.0, 15.0, 15.0]), nodule, np.random.default_rng(0))
    volume = ((canvas.hu + 850) / (canvas.hu.max() + 850)).sum() * 0.5**3
    assert volume == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.06)


@pytest.mark.parametrize("source", ["luna16", "tianchi"])
def test_diameters_follow_the_challenge(source: str) -> None:
    settings = PhantomSettings(nodule_counts=(1, 1, 1), diameters=source, largest_diameter_mm=40)
    drawn = [nodule.diameter_mm for index in range(400) for nodule in draw_nodules(settings, 5, index)]
    expected = {"luna16": 6.43, "tianchi": 7.26}[source]
    assert np.median(drawn) == pytest.approx(expected, rel=0.03)


def test_about_a_third_of_the_scans_have_no_nodule() -> None:
    counts = [len(draw_nodules(PhantomSettings(), 0, index)) for index in range(120)]
    assert np.mean(np.array(counts) == 0) == pytest.approx(6 / 17, abs=0.03)


def test_a_tree_reaches_all_of_its_ends() -> None:
    generator = np.random.default_rng(0)
    ends = generator.uniform(-40, 40, (30, 3))
    tree = grow_tree(np.zeros(3), ends, 0.5, generator)
    assert (tree.clearance_mm(ends) < 0).all()
    assert tree.radius_mm.max() > 1.5
    assert len(grow_tree(np.zeros(3), np.zeros((0, 3)), 0.5, generator)) == 0
    assert np.isinf(Tree.join([]).clearance_mm(ends)).all()


def test_a_tube_thinner_than_a_voxel_pales() -> None:
    canvas = Canvas.blank(Grid((9, 9, 9), (1.0, 1.0, 1.0)), 0.0)
    paint_segment(canvas, np.array([4.0, 4.0, 0.0]), np.array([4.0, 4.0, 8.0]), (0.1, 0.1), 100.0)
    assert 0 < canvas.hu[4, 4, 4] < 20


@pytest.mark.parametrize(
    "values",
    [
        {"diameters": "lidc"},
        {"noise_hu": (9.0, 3.0)},
        {"noise_hu": (9.0,)},
        {"noise_hu": (-1.0, 3.0)},
        {"slice_mm": (0, 0)},
        {"slice_mm": (1.0, 400.0)},
        {"pixel_mm": (0.0, 1.0)},
        {"body_scale": (0.0, 1.0)},
        {"matrix": 12},
        {"vessel_ends": -3},
        {"nodule_counts": (0,)},
        {"nodule_counts": ()},
        {"nodule_counts": (1, -1, 2)},
        {"nodule_kinds": (1, 0)},
        {"nodule_kinds": (0, 0, 0)},
        {"nodule_places": (1, 0, 0)},
        {"nodule_places": (np.nan, 0, 0, 1)},
        {"lobulations": ()},
        {"lobulations": (-0.2,)},
        {"contrast_share": 1.5},
        {"diameter_scale": 0.0},
        {"largest_diameter_mm": 2.0},
    ],
    ids=lambda values: "=".join(map(str, *values.items())),
)
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(InputError) as error:
        PhantomSettings(**values)
    assert error.value.key == "argument-invalid"
    assert f"phantom.{name} " in str(error.value)


def test_the_smallest_and_coarsest_chest_can_be_made() -> None:
    settings = PhantomSettings(
        matrix=64, pixel_mm=(5, 5), slice_mm=(10, 10), body_scale=(0.3, 0.3), nodule_counts=(0, 1), vessel_ends=1
    )
    assert len(make_phantom(settings, 0, 0).nodules) == 1


def test_every_scan_has_its_own_origin_and_findings_move_with_it(phantom: Phantom) -> None:
    made = [phantom, *(make_phantom(SMALL, seed=3, index=index) for index in (2, 3))]
    middles = np.array([item.scan.grid.corners_xyz_mm().mean(axis=0) for item in made])
    assert (np.ptp(middles, axis=0) > 5).all()
    for item in made:
        for number in (1, 2):
            labelled = item.scan.grid.to_world(np.argwhere(item.nodule_labels == number).astype(float))
            away_mm = np.linalg.norm(labelled.mean(axis=0) - item.nodules.centre_xyz_mm[number - 1])
            assert away_mm < 2.0


def test_labels_are_as_large_as_the_nodules_and_denser_than_the_lung(phantom: Phantom) -> None:
    grid = phantom.scan.grid
    for number, diameter_mm in enumerate(phantom.nodules.diameter_mm, start=1):
        inside = phantom.nodule_labels == number
        volume_mm3 = np.count_nonzero(inside) * np.prod(grid.spacing_zyx_mm)
        assert np.cbrt(6 / np.pi * volume_mm3) == pytest.approx(diameter_mm, rel=0.15, abs=1.0)
        assert phantom.scan.hu[inside].max() > -500


def test_the_field_of_view_never_cuts_the_lungs() -> None:
    made = make_phantom(replace(SMALL, pixel_mm=(0.5, 0.5)), seed=3, index=1)
    rows, columns = (np.linspace(-1, 1, count) for count in made.lungs.shape[1:])
    outside = rows[:, None] ** 2 + columns**2 > 1
    assert not (made.lungs.any(axis=0) & outside).any()
    assert 0.5 < made.scan.grid.spacing_zyx_mm[1] < 0.9


def test_airways_are_open_from_the_throat_to_their_branches() -> None:
    generator = np.random.default_rng(0)
    thorax = Thorax.draw(0.5, False, generator)
    # Slices end above the mouth.
    canvas = Canvas.blank(Grid((220, 128, 128), (1.0, 1.0, 1.0), (-64.0, -64.0, -64.0)), -850.0)
    anatomy.paint_soft_tissue(canvas, thorax)
    beyond.paint_head(canvas, thorax)
    root = thorax.hilum(1) + np.array([0.0, 4.0, 0.0]) * 0.5
    branches = grow_tree(root, root + np.array([[30.0, 0.0, 0.0], [30.0, 10.0, -20.0]]), 1.5, generator, 2.75)
    anatomy.paint_airways(canvas, thorax, branches)
    larynx, carina = np.array([0.0, 4.0, 150.0]) * 0.5, np.array([0.0, 14.0, 30.0]) * 0.5
    throat = np.array([0.0, -8.0, 215.0]) * 0.5
    stretches = [(throat, larynx), (larynx, carina), (carina, root)]
    stretches += list(zip(branches.start_xyz_mm, branches.stop_xyz_mm, strict=True))
    for start, stop in stretches:
        # A wall left across a joint would be dense on the line through its middle.
        line = start + np.linspace(0, 1, 40)[:, None] * (stop - start)
        z, y, x = np.rint(line[:, ::-1] + 64).astype(int).T
        assert canvas.hu[z, y, x].max() < -700
    # The airway has a wall where it lies in the lung.
    end = np.rint(branches.stop_xyz_mm[0][::-1] + 64).astype(int)
    assert canvas.hu[end[0] - 4 : end[0] + 5, end[1], end[2]].max() > -600


def test_no_airway_runs_through_the_heart() -> None:
    settings = replace(
        SMALL,
        matrix=160,
        body_scale=(0.7, 0.7),
        pixel_mm=(1.5, 1.5),
        slice_mm=(1.5, 1.5),
        airway_ends=400,
        noise_hu=(1, 2),
    )
    made = make_phantom(settings, 1, 0)
    grid = made.scan.grid
    offset = grid.to_world(np.indices(grid.shape).reshape(3, -1).T.astype(float)) - grid.corners_xyz_mm().mean(axis=0)
    # Most of the heart, around its middle.
    inside = (np.linalg.norm((offset / 0.7 - [22, -28, -58]) / [45, 34, 42], axis=1) < 1).reshape(grid.shape)
    assert np.count_nonzero(inside) > 5000
    assert made.scan.hu[inside].min() > 20


def test_realistic_spans_the_ranges_of_luna16() -> None:
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        settings = instantiate(compose("phantom", ["phantom=realistic"]).phantom)
    assert settings.pixel_mm == [0.5, 0.95]
    assert settings.slice_mm == [0.6, 2.5]
    assert settings.matrix == 512
    assert 0 < settings.contrast_share < 1
