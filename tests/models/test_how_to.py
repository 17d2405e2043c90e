"""docs/how-to/network.md defines a network in one Python and one YAML file; both are built and run here."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.models.heads import AnchorDetector
from tests.models.networks import composed

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "network.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_pages_network_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("nodule_lightning.models.dilated_net")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(block("python"), module.__dict__)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "dilated_net.yaml").write_text(block("yaml"), encoding="utf-8")
    monkeypatch.setenv("NODULE_CONF", str(tmp_path))
    network = instantiate(composed("dilated_net").model)
    assert isinstance(network, AnchorDetector)
    maps = network(torch.randn(1, 1, 16, 16, 32))
    assert maps.shape == (1, 4, 4, 8, 3, 5)
    maps.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert sum(isinstance(part, torch.nn.Conv3d) for part in network.modules()) == 7
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(0.2e6, abs=0.05e6)
