"""The phantom: same seed, same scan; the truth that it tells is the truth that it paints."""

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.phantom.canvas import Canvas, paint_segment
from nodule_lightning.phantom.nodules import Nodule, draw_nodules, paint_nodule
from nodule_lightning.phantom.scan import Phantom, make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.trees import Tree, grow_tree

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
    "values", [{"diameters": "lidc"}, {"noise_hu": (9.0, 3.0)}, {"matrix": 12}], ids=["source", "range", "matrix"]
)
def test_wrong_settings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match="phantom"):
        PhantomSettings(**values)  # type: ignore[arg-type]
