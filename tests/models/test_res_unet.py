"""The network: shapes, size, gradients."""

import pytest
import torch
from torch import nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.res_unet import ResUNet


def narrow(norm: str = "batch", stem_stride: int = 2, first_blocks: int = 0) -> ResUNet:
    return ResUNet((4, 4, 6, 8, 8), (first_blocks, 1, 1, 1), (8, 6), (1, 1), norm, stem_stride, dropout=0.1)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
@pytest.mark.parametrize(("stem_stride", "first_blocks"), [(1, 1), (2, 0), (2, 2)])
def test_every_variant_gives_stride_4_and_gradients_everywhere(norm: str, stem_stride: int, first_blocks: int) -> None:
    torch.manual_seed(0)
    network = narrow(norm, stem_stride, first_blocks)
    features = network(torch.randn(2, 1, 32, 48, 32))
    assert features.shape == (2, 6, 8, 12, 8)
    assert torch.isfinite(features).all()
    features.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_default_is_the_seed_teams_network() -> None:
    network = ResUNet()
    # Of the team's 40, the head brings two, and one is the shortcut of the block that the position map widens.
    assert sum(isinstance(module, nn.Conv3d) for module in network.modules()) == 37
    assert sum(isinstance(module, nn.ConvTranspose3d) for module in network.modules()) == 2
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(5.4, abs=0.1)


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_an_output_cell_looks_at_the_voxels_it_covers(stem_stride: int) -> None:
    """Alignment: the middle of the stem's view of cell i is voxel 2i + 0.5, on which the anchors' centres rely."""
    stem = narrow(stem_stride=stem_stride, first_blocks=1).stem.eval()
    image = torch.zeros(1, 1, 16, 16, 16, requires_grad=True)
    stem(image + torch.rand(1, 1, 16, 16, 16))[0, :, 4, 4, 4].sum().backward()
    assert image.grad is not None
    seen = image.grad[0, 0].abs().sum(dim=(1, 2)).nonzero()
    reach = {1: 2, 2: 1}[stem_stride]
    assert seen.min() >= 8 - reach
    assert seen.max() <= 9 + reach


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"channels": (8, 8)}, "5 channels"),
        ({"stem_stride": 3}, "stem_stride"),
        ({"blocks": (0, 1, 1, 1)}, "level"),
        ({"channels": (0, 8, 8, 8, 8)}, "at least 1"),
        ({"norm": "layer"}, "norm"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        ResUNet(**arguments)  # type: ignore[arg-type]
