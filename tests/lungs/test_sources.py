"""Other sources of lungs than the rules: label maps in any direction, the lungmask package, the body's box."""

import sys
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int16, UInt8
from torch import Tensor

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.settings import LungSettings
from nodule_lightning.lungs.sources import locate_lungs
from nodule_lightning.structures import Scan
from tests.chest import CENTRE_XYZ_MM, GRID, LUNG_RADII_XYZ_MM, ball, draw_chest, lung_centre, world_of

FLIPPED = Grid(GRID.shape, GRID.spacing_zyx_mm, (147.2, 103.4, -228.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))


def labels_on(grid: Grid, right: int, left: int) -> UInt8[np.ndarray, "z y x"]:
    labels = np.zeros(grid.shape, np.uint8)
    labels[ball(world_of(grid), lung_centre(-1), LUNG_RADII_XYZ_MM - 12)] = right
    labels[ball(world_of(grid), lung_centre(1), LUNG_RADII_XYZ_MM - 6)] = left
    return labels


@pytest.mark.parametrize("grid", [GRID, FLIPPED], ids=["plain", "flipped"])
def test_luna16_labels(grid: Grid) -> None:
    labels = labels_on(grid, 4, 3)
    labels[ball(world_of(grid), CENTRE_XYZ_MM + np.array([0, 0, 60.0]), np.full(3, 9.0))] = 5
    found = locate_lungs(draw_chest(grid), LungSettings(source="luna16_masks"), labels)
    sizes = [4 / 3 * np.pi * np.prod(LUNG_RADII_XYZ_MM - less) / 1e6 for less in (12, 6)]
    assert found.volume_l == pytest.approx(sizes, rel=0.05)
    assert found.high_xyz_mm[2] < CENTRE_XYZ_MM[2] + LUNG_RADII_XYZ_MM[2] - 2
    assert (found.found, found.cures, found.notes) == (True, (), ())


def test_an_empty_mask_loses_no_scan() -> None:
    found = locate_lungs(draw_chest(), LungSettings(source="luna16_masks"), np.zeros(GRID.shape, np.uint8))
    assert found.found
    assert len(found.notes) == 1


def test_none_is_the_body_s_box() -> None:
    found = locate_lungs(draw_chest(), LungSettings(source="none"))
    assert (found.found, found.notes) == (False, ())
    assert found.high_xyz_mm[0] - found.low_xyz_mm[0] == pytest.approx(230, abs=15)


def test_lungmask_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lungmask", None)
    with pytest.raises(InputError) as error:
        locate_lungs(draw_chest(), LungSettings(source="lungmask"))
    assert error.value.key == "package-missing"
    assert "pip install lungmask" in str(error.value)


@pytest.fixture
def lungmask(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Replace the package, which expects slices feet first and labels the right lung 1, the left 2."""
    seen: list[tuple[int, ...]] = []

    class Inferer:
        def __init__(self, *, tqdm_disable: bool) -> None:
            assert tqdm_disable

        def apply(self, hu: Int16[np.ndarray, "z y x"]) -> UInt8[np.ndarray, "z y x"]:
            seen.append(hu.shape)
            upright = Grid(hu.shape, GRID.spacing_zyx_mm, GRID.origin_xyz_mm)
            return labels_on(upright, 1, 2)

    module = ModuleType("lungmask")
    module.LMInferer = Inferer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lungmask", module)
    return seen


def plain_and_sideways() -> tuple[Scan, Scan]:
    turned = Grid((100, 54, 79), (2.8, 3.0, 2.8), GRID.origin_xyz_mm, (0, 0, 1, 1, 0, 0, 0, 1, 0))
    plain = draw_chest()
    return plain, Scan("sagittal", np.ascontiguousarray(plain.hu.transpose(2, 0, 1)), turned)


def test_lungmask_sees_the_scan_upright_and_its_labels_are_laid_back(lungmask: list[tuple[int, ...]]) -> None:
    for scan in plain_and_sideways():
        found = locate_lungs(scan, LungSettings(source="lungmask"))
        sizes = [4 / 3 * np.pi * np.prod(LUNG_RADII_XYZ_MM - less) / 1e6 for less in (12, 6)]
        assert found.volume_l == pytest.approx(sizes, rel=0.05)
    assert lungmask == [GRID.shape, GRID.shape]


def test_weights_that_lungmask_cannot_fetch_are_one_line(
    lungmask: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(**_: bool) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("lungmask.LMInferer", offline)
    with pytest.raises(InputError) as error:
        locate_lungs(draw_chest(), LungSettings(source="lungmask"))
    assert error.value.key == "file-missing"
    assert "Name or service not known" in str(error.value)


class ByDensity(torch.nn.Module):
    """Replaces the network of the package: label 1 for lung in the left half of the image, 2 in the right half."""

    def forward(self, planes: Float[Tensor, "b 1 y x"]) -> Float[Tensor, "b 3 y x"]:
        hu = planes[:, 0] * 1624 - 1024
        lung = (hu > -930) & (hu < -300)
        is_left_half = torch.arange(hu.shape[-1], device=hu.device) < hu.shape[-1] // 2
        return torch.stack([~lung, lung & is_left_half, lung & ~is_left_half], dim=1).float()


def test_the_real_lungmask_is_called_as_it_wants_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lungmask", reason="the package lungmask is not installed", exc_type=ImportError)
    monkeypatch.setattr("lungmask.mask.get_model", lambda *_: ByDensity())
    for scan in plain_and_sideways():
        found = locate_lungs(scan, LungSettings(source="lungmask"))
        whole_l = 4 / 3 * np.pi * np.prod(LUNG_RADII_XYZ_MM) / 1e6
        assert found.volume_l == pytest.approx((whole_l, whole_l), rel=0.05)
        assert (found.found, found.cures, found.notes) == (True, (), ())
