"""Anchors: places, and boxes to numbers and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nodule_lightning.detection.anchors import AnchorGrid, decode, encode
from nodule_lightning.errors import InputError


def test_centres_lie_in_the_middle_of_the_voxels_a_cell_covers() -> None:
    boxes = AnchorGrid((5.0, 10.0), stride=4, spacing_mm=0.5).boxes((2, 3, 4))
    assert boxes.shape == (2, 3, 4, 2, 4)
    assert boxes[1, 2, 3, 1].tolist() == [5.5, 9.5, 13.5, 20.0]


@given(st.lists(st.floats(-40, 40), min_size=3, max_size=3), st.floats(1, 60), st.floats(2, 30))
def test_decode_undoes_encode(centre: list[float], diameter: float, anchor_diameter: float) -> None:
    box = torch.tensor([[*centre, diameter]], dtype=torch.float64)
    anchor = torch.tensor([[1.5, 5.5, 9.5, anchor_diameter]], dtype=torch.float64)
    assert torch.allclose(decode(encode(box, anchor), anchor), box, atol=1e-9)


def test_numbers_are_relative_to_the_anchor() -> None:
    numbers = encode(torch.tensor([[3.0, 0.0, -5.0, 20.0]]), torch.tensor([[1.0, 0.0, 0.0, 10.0]]))
    assert numbers[0].tolist() == pytest.approx([0.2, 0.0, -0.5, 0.693147])


def test_a_wild_log_size_stays_finite() -> None:
    assert torch.isfinite(decode(torch.full((1, 4), 500.0), torch.ones(1, 4))).all()


@pytest.mark.parametrize("arguments", [{"diameters_mm": ()}, {"diameters_mm": (5.0, -1.0)}, {"spacing_mm": 0.0}])
def test_bad_arguments_are_refused(arguments: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(InputError) as error:
        AnchorGrid(**arguments)  # type: ignore[arg-type]
    assert error.value.key == "argument-invalid"
