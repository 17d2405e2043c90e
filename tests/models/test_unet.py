"""The U-Net in 2D and 3D: the paper's layers, the grid of its features, what a slice sees."""

import pytest
import torch
from torch import nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.unet import UNet

SMALL = (2, 4, 6, 8, 10)


def test_the_wiring_of_2015_has_26_layers() -> None:
    network = UNet(dimensions=2, channels=(64, 128, 256, 512, 1024), decoder_stride=1)
    convolutions, deconvolutions = (
        [module for module in network.modules() if isinstance(module, kind)] for kind in (nn.Conv3d, nn.ConvTranspose3d)
    )
    poolings = len(network.encoder) - 1
    assert (len(convolutions), len(deconvolutions), poolings) == (18, 4, 4)
    widths = [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024, 512, 512, 256, 256, 128, 128, 64, 64]
    assert [module.out_channels for module in convolutions] == widths
    assert {module.kernel_size for module in convolutions} == {(1, 3, 3)}
    assert [module.out_channels for module in deconvolutions] == [512, 256, 128, 64]


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(("decoder_stride", "stride"), [(1, 1), (1, 4), (2, 2), (2, 4), (4, 4)])
def test_features_lie_on_the_heads_grid(dimensions: int, decoder_stride: int, stride: int) -> None:
    network = UNet(dimensions, SMALL, decoder_stride, stride, position=True).train()
    features = network(torch.randn(2, 1, 16, 32, 48), torch.zeros(2, 3, 2))
    assert features.shape == (2, network.out_channels, 16 // stride, 32 // stride, 48 // stride)
    features.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize(("dimensions", "seen"), [(2, [8]), (3, [8, 9, 10])])
def test_only_in_3d_it_sees_the_slices_beside(dimensions: int, seen: list[int]) -> None:
    network = UNet(dimensions, SMALL, 1, 1, dropout=0.0).eval()
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    network(image)[0, :, 8].sum().backward()
    assert image.grad is not None
    slices = image.grad[0, 0].abs().sum(dim=(1, 2)).nonzero().flatten().tolist()
    assert set(seen) <= set(slices)
    assert (slices == [8]) == (dimensions == 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"dimensions": 4}, "dimensions"),
        ({"channels": (8,)}, "channels"),
        ({"channels": (8, 0, 8)}, "channels"),
        ({"decoder_stride": 16}, "decoder_stride"),
        ({"decoder_stride": 4, "stride": 2}, "stride"),
        ({"norm": "layer"}, "norm"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InputError) as error:
        UNet(**arguments)  # type: ignore[arg-type]
    assert error.value.key == "argument-invalid"
    assert named in str(error.value)
