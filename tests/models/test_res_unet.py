"""The residual U-Net: shapes, size, gradients."""

import pytest
import torch
from torch import nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.blocks import ResidualBlock, convolution_block
from nodule_lightning.models.res_unet import ResUNet


def narrow(norm: str = "batch", stem_stride: int = 2, first_blocks: int = 0, block: str = "residual") -> ResUNet:
    return ResUNet((4, 4, 6, 8, 8), (first_blocks, 1, 1, 1), (8, 6), (1, 1), norm, stem_stride, 0.1, block)


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


def test_it_is_the_seed_teams_network() -> None:
    network = ResUNet(position=True)
    # Of the team's 40, the head brings two.
    assert sum(isinstance(module, nn.Conv3d) for module in network.modules()) == 38
    assert sum(isinstance(module, nn.ConvTranspose3d) for module in network.modules()) == 2
    # Beside the 64 channels from below and the 64 of the encoder, as in grt123's back2.
    assert isinstance(network.decode_4[0], ResidualBlock)
    assert [part.in_channels for part in network.decode_4[0].modules() if isinstance(part, nn.Conv3d)] == [
        131,
        128,
        131,
    ]
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(5.4, abs=0.1)


def test_plain_and_residual_differ_in_the_shortcut_alone() -> None:
    plain, residual = narrow(block="plain"), narrow(block="residual")
    shared = {name: weight for name, weight in residual.state_dict().items() if ".shortcut." not in name}
    assert {name: weight.shape for name, weight in plain.state_dict().items()} == {
        name: weight.shape for name, weight in shared.items()
    }
    assert len(residual.state_dict()) > len(shared)
    plain.load_state_dict(shared)
    images = torch.randn(1, 1, 16, 16, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(plain.eval()(images), residual.eval()(images))
    # A convolution of zeros lets a residual block's input through, and stops a plain one's.
    features = torch.rand(1, 3, 4, 4, 4)
    for kind, passed in (("plain", torch.zeros_like(features)), ("residual", features)):
        block = convolution_block(kind, 3, 3, "instance").eval()
        for weight in block.parameters():
            nn.init.zeros_(weight)
        assert torch.equal(block(features), passed)


def test_a_third_level_of_the_decoder_gives_stride_2() -> None:
    network = ResUNet((4, 4, 6, 8, 8), (0, 1, 1, 1), (8, 6, 5), (1, 1, 1), stem_stride=2, position=True)
    assert (network.stride, network.out_channels) == (2, 5)
    assert network(torch.randn(1, 1, 16, 32, 16), torch.zeros(1, 3, 2)).shape == (1, 5, 8, 16, 8)


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
        ({"channels": (8, 8)}, "channels"),
        ({"stem_stride": 3}, "stem_stride"),
        ({"blocks": (0, 1, 1, 1)}, "blocks"),
        ({"channels": (0, 8, 8, 8, 8)}, "channels"),
        ({"norm": "layer"}, "norm"),
        ({"block": "dense"}, "block"),
        ({"decoder_channels": (8, 8, 8)}, "decoder_channels"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InputError) as error:
        ResUNet(**arguments)  # type: ignore[arg-type]
    assert error.value.key == "argument-invalid"
    assert named in str(error.value)
