"""What a forward pass costs is counted: tensors that live at once, in the precision of now."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.models.blocks import Backbone
from nodule_lightning.models.heads import AnchorDetector
from nodule_lightning.search.memory import WORKSPACE, is_out_of_memory, memory_cost


class Wide(Backbone):
    """Holds 1 channel and 64 at once, each a voxel."""

    stride = 4
    stride_total = 4
    out_channels = 64

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Conv3d(1, 64, 3, padding=1)
        self.large = nn.Parameter(torch.zeros(10**6))

    def forward(
        self, images: Float[Tensor, "b 1 z y x"], position: Float[Tensor, "b 3 2"] | None = None
    ) -> Float[Tensor, "b 64 cz cy cx"]:
        """Widen, then keep one cell of 4 voxels; the weights' own view is nothing new."""
        assert self.large.view(-1).shape == (10**6,)
        features: Tensor = self.widen(images)[:, :, ::4, ::4, ::4].contiguous()
        return features


def test_the_fullest_moment_is_counted_without_the_weights() -> None:
    network = AnchorDetector(Wide(), AnchorGrid((8.0,)), hidden=1)
    cost = memory_cost(network)
    # 4 bytes of the image and of 64 channels, and of these every 64th once more.
    assert cost.bytes_per_voxel == pytest.approx(WORKSPACE * 4 * (1 + 64 + 1), rel=0.01)
    assert cost.fixed_bytes < 10**5
    assert cost.voxels_in(cost.bytes_for(10**6)) == pytest.approx(10**6, abs=1)
    assert cost.voxels_in(0.0) == 0


def test_half_the_precision_takes_half_the_memory() -> None:
    network = AnchorDetector(Wide(), AnchorGrid((8.0,)), hidden=1)
    full = memory_cost(network)
    with torch.autocast("cpu", torch.bfloat16):
        half = memory_cost(network)
    assert 0.4 < half.bytes_per_voxel / full.bytes_per_voxel < 0.6
    assert memory_cost(network) == full


def test_it_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = AnchorDetector(Wide(), AnchorGrid((8.0,)), hidden=1)
    first = memory_cost(network)
    monkeypatch.setattr(network, "forward", None)
    assert memory_cost(network) == first


@pytest.mark.parametrize("error", [RuntimeError("out of range"), ValueError("not enough memory"), KeyError("x")])
def test_other_errors_are_not_taken_for_want_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
