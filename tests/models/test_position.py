"""The position map: coordinates in the lung crop, for any piece of it."""

import pytest
import torch

from nodule_lightning.boxes import position_in_crop
from nodule_lightning.models.position import position_map


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_piece_has_the_places_that_the_whole_has_there(stride: int) -> None:
    crop, start, stop = (32, 40, 48), (8, 0, 16), (24, 32, 48)

    def places(start: tuple[int, ...], stop: tuple[int, ...]) -> torch.Tensor:
        voxels = [last - first for first, last in zip(start, stop, strict=True)]
        features = torch.zeros(1, 5, *[size // stride for size in voxels])
        return position_map(torch.from_numpy(position_in_crop(start, stop, crop))[None], features, voxels)

    whole = places((0, 0, 0), crop)
    window = [slice(first // stride, last // stride) for first, last in zip(start, stop, strict=True)]
    torch.testing.assert_close(places(start, stop), whole[:, :, window[0], window[1], window[2]])
    # The centre of cell i is voxel si + (s - 1) / 2.
    expected = 2 * (torch.arange(32 // stride) * stride + (stride - 1) / 2) / 31 - 1
    torch.testing.assert_close(whole[0, 0, :, 0, 0], expected)
    assert not whole[0, 0].diff(dim=1).any()


def test_no_position_means_the_whole_crop_and_the_type_is_the_features() -> None:
    features = torch.zeros(2, 5, 4, 4, 4, dtype=torch.bfloat16)
    whole = torch.tensor([-1.0, 1.0]).expand(2, 3, 2)
    maps = position_map(None, features, (16, 16, 16))
    assert maps.dtype == torch.bfloat16
    assert torch.equal(maps, position_map(whole, features, (16, 16, 16)))
    assert position_map(None, features[:0], (16, 16, 16)).shape == (0, 3, 4, 4, 4)
