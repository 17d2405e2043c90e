"""Folding batch norm into convolutions gives a copy that computes the same."""

import copy

import pytest
import torch
from torch import nn

from nodule_lightning.models.folding import folded
from tests.models.networks import NAMES, built

IMAGES = torch.randn(1, 1, 16, 16, 32, generator=torch.Generator().manual_seed(0))


def norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]


@pytest.mark.parametrize("name", [name for name in NAMES if "deep" not in name])
@torch.no_grad()
def test_every_network_computes_the_same(name: str) -> None:
    network = built(name)
    for norm in norms(network):
        assert isinstance(norm, nn.BatchNorm3d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.3)
    before = copy.deepcopy(network.state_dict())
    quick = folded(network)
    assert norms(network)
    assert not norms(quick)
    assert network.training
    assert not quick.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    expected = network.eval()(IMAGES)
    torch.testing.assert_close(quick(IMAGES), expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


def test_other_norms_stay() -> None:
    sequence = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2), nn.Conv3d(2, 2, 3), nn.GroupNorm(1, 2))
    network = built("unet3d_narrow")
    network.head = sequence
    kept = [type(module) for module in folded(network).head.modules()]
    assert kept == [nn.Sequential, nn.Conv3d, nn.InstanceNorm3d, nn.Conv3d, nn.GroupNorm]
