"""The network of the second stage, and each of its configurations in conf/classifier."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.errors import InputError
from nodule_lightning.models.classifier import CandidateClassifier
from tests.marked_balls import tiny_classifier

FILES = sorted((Path(__file__).parents[2] / "conf" / "classifier").glob("*.yaml"))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_choice_gives_logits_and_a_gradient_to_every_parameter(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    torch.manual_seed(0)
    network = instantiate(DictConfig(OmegaConf.create(text)))
    assert isinstance(network, CandidateClassifier)
    network.require_patch(32)
    logit = network.train()(torch.randn(3, 1, 32, 32, 32))
    assert logit.shape == (3,)
    assert torch.isfinite(logit).all()
    (logit * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    (said,) = re.findall(r"([\d.]+) M parameters", text)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(float(said), abs=0.05)


def test_no_patch_gives_no_logit() -> None:
    network = tiny_classifier().eval()
    assert network(torch.zeros(0, 1, 16, 16, 16)).shape == (0,)


def test_the_middle_is_distinguished_from_the_rim() -> None:
    torch.manual_seed(0)
    network = tiny_classifier().eval()
    ball = torch.zeros(2, 1, 32, 32, 32)
    ball[0, 0, 14:18, 14:18, 14:18] = 2
    ball[1, 0, 14:18, 14:18, 26:30] = 2
    with torch.no_grad():
        middle, rim = network(ball)
        # Without the middle cells, a mean over the whole patch hardly knows where the ball is.
        network.output.weight[:, 8:] = 0
        middle_of_all, rim_of_all = network(ball)
    assert abs(middle - rim) > 3 * abs(middle_of_all - rim_of_all)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"channels": (4, 8), "blocks": (1,)}, "blocks [1]"),
        ({"channels": (), "blocks": ()}, "channels []"),
        ({"channels": (4, 0), "blocks": (1, 1)}, "channels [4, 0]"),
        ({"dropout": 1.0}, "dropout"),
        ({"norm": "layer"}, "'layer'"),
    ],
)
def test_wrong_settings(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        CandidateClassifier(**arguments)
    assert error.value.key == "argument-invalid"
    assert named in str(error.value)


@pytest.mark.parametrize("voxels", [0, 30])
def test_patches_that_cannot_be_halved_are_refused(voxels: int) -> None:
    with pytest.raises(InputError) as error:
        tiny_classifier().require_patch(voxels)
    assert error.value.key == "argument-invalid"
    assert str(voxels) in str(error.value)
