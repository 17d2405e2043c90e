"""The anchor head: layout of its numbers, prior, stride."""

import pytest
import torch

from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.errors import InputError
from nodule_lightning.models.heads import AnchorDetector, AnchorHead
from nodule_lightning.models.res_unet import ResUNet
from tests.balls import tiny_network


def test_maps_hold_five_numbers_for_each_anchor_of_each_cell() -> None:
    head = AnchorHead(4, anchors=3, hidden=8)
    features = torch.randn(2, 4, 3, 4, 5)
    maps = head(features)
    assert maps.shape == (2, 3, 4, 5, 3, 5)
    raw = head.output(torch.relu(head.hidden(features)))
    assert torch.equal(maps[1, 2, 3, 4, 2], raw[1, 10:15, 2, 3, 4])


def test_an_untrained_head_gives_the_prior_everywhere() -> None:
    head = AnchorHead(4, anchors=2, hidden=8, prior=0.01)
    probability = torch.sigmoid(head(torch.randn(1, 4, 4, 4, 4))[..., 0])
    assert probability.mean().item() == pytest.approx(0.01, rel=0.3)


def test_the_detector_keeps_channels_last_and_refuses_another_stride() -> None:
    weight = tiny_network().state_dict()["backbone.up_4.0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    with pytest.raises(InputError) as error:
        AnchorDetector(ResUNet(), AnchorGrid(stride=2))
    assert error.value.key == "argument-conflict"
