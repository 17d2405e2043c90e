"""Every network of conf/model trains: each file there is tested here without being listed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nodule_lightning.config.instantiate import instantiate, plain
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.search.precision import is_quick_in_bf16
from nodule_lightning.training.checkpoint import CHECKPOINT_KEY, load_detector
from tests.models.networks import CONF, NAMES, built, composed
from tests.ranks import ENVIRONMENT

COMPILED = Path(__file__).with_name("compiled.py")
POSITION = torch.tensor([[-1.0, 0.3]]).expand(2, 3, 2)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(name: str) -> DetectionNetwork:
    return built(name)


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 1, 16, 16, 32, generator=torch.Generator().manual_seed(0))


def test_a_training_step_gives_finite_maps_and_a_gradient_to_every_parameter(network: DetectionNetwork) -> None:
    network.train().zero_grad()
    maps = network(images(), POSITION)
    stride = network.anchors.stride
    cells = (16 // stride, 16 // stride, 32 // stride)
    assert maps.shape == (2, *cells, len(network.anchors.diameters_mm), network.numbers)
    assert maps.shape[1:5] == network.anchors.boxes(cells).shape[:4]
    assert torch.isfinite(maps).all()
    (maps * torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_bf16_gives_nearly_the_same_maps_and_finite_gradients(network: DetectionNetwork) -> None:
    network.eval().zero_grad()
    # bf16 is slow on many CPUs.
    small = images(1)[..., :16]
    exact = network(small, POSITION[:1]).detach()
    with torch.autocast("cpu", torch.bfloat16):
        maps = network(small, POSITION[:1])
    assert maps.dtype == torch.bfloat16
    assert (maps.float() - exact).abs().max() < 0.1 * exact.abs().max()
    maps.float().square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)


@pytest.mark.skipif(not is_quick_in_bf16(on_gpu=False), reason="this CPU's convolutions give a layout of their own")
def test_everything_stays_in_channels_last(network: DetectionNetwork) -> None:
    strayed: list[str] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if not output.is_contiguous(memory_format=torch.channels_last_3d):
            strayed.append(str(module))

    hooks = [
        module.register_forward_hook(look)
        for module in network.modules()
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.MaxPool3d)
    ]
    # In fp32 torch's CPU convolutions in 3D give their own layout, whatever they are given.
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        network.eval()(images(1), POSITION[:1])
    for hook in hooks:
        hook.remove()
    assert not strayed


def test_the_weights_are_in_channels_last(network: DetectionNetwork) -> None:
    assert all(
        weight.is_contiguous(memory_format=torch.channels_last_3d)
        for weight in network.parameters()
        if weight.dim() == 5
    )


@torch.inference_mode()
def test_no_image_gives_maps_of_none(network: DetectionNetwork) -> None:
    maps = network.eval()(images(0), POSITION[:0])
    assert maps.shape[0] == 0
    assert maps.shape[1:] == network(images(1), POSITION[:1]).shape[1:]


@torch.inference_mode()
def test_its_maps_mean_boxes(network: DetectionNetwork) -> None:
    network.eval()
    maps = network(images(1), POSITION[:1])[0]
    found = network.decode(maps, min_probability=0.0, most=5, largest_diameter=20.0)
    assert len(found.probability) <= 5
    assert (found.boxes[:, 3] <= 20).all()
    assert network.decode(maps - 30, min_probability=0.01, most=5).boxes.shape == (0, 4)


@torch.inference_mode()
def test_the_position_changes_the_maps_only_if_the_network_uses_it(network: DetectionNetwork) -> None:
    network.eval()
    one, other = (network(images(1), POSITION[:1] + shift) for shift in (0.0, 0.5))
    assert torch.equal(one, other) != getattr(network.backbone, "position", False)


def test_its_assignment_and_its_loss_fit(name: str, network: DetectionNetwork) -> None:
    config = composed(name)
    maps = torch.zeros(1, 4, 4, 4, len(network.anchors.diameters_mm), network.numbers)
    boxes, kind = torch.tensor([[[6.0, 7.0, 8.0, 6.0]]]), torch.ones(1, 1, dtype=torch.int8)
    assignment = instantiate(config.assign)(network.anchors.boxes((4, 4, 4)), boxes, kind)
    assert (assignment.label == 1).any()
    terms = instantiate(config.loss)(maps, assignment, torch.Generator().manual_seed(0))
    assert torch.isfinite(terms.total)


def test_a_checkpoint_gives_it_back(name: str, network: DetectionNetwork, tmp_path: Path) -> None:
    config = composed(name)
    model = {"network": plain(config.model), "inference": plain(config.inference)}
    about = {"version": "0", "model": model, "preparation": PreparationSettings().to_dict()}
    weights = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": weights, CHECKPOINT_KEY: about}, tmp_path / "best.ckpt")
    again = load_detector(tmp_path / "best.ckpt").network
    assert type(again) is type(network)
    with torch.inference_mode():
        assert torch.equal(again(images(1), POSITION[:1]), network.eval()(images(1), POSITION[:1]))


def test_its_file_counts_its_convolutions(name: str, network: DetectionNetwork) -> None:
    counts = [sum(isinstance(module, kind) for module in network.modules()) for kind in (nn.Conv3d, nn.ConvTranspose3d)]
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    header = (CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    said = " ".join(line for line in header if line.startswith("#"))
    found = re.search(r"(\d+) convolutions and (\d+) deconvolutions, ([\d.]+) M parameters", said)
    assert found is not None, "the file's first lines say: N convolutions and N deconvolutions, N M parameters"
    assert [int(found[1]), int(found[2])] == counts
    assert float(found[3]) == pytest.approx(millions, abs=0.051)


def compiled(backend: str, names: list[str]) -> list[str]:
    ended = subprocess.run(
        [sys.executable, str(COMPILED), backend, *names],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        timeout=1800,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout.split()


def test_torch_compile_captures_the_narrow_ones_as_one_graph() -> None:
    narrow = [name for name in NAMES if name.endswith("_narrow")]
    assert compiled("eager", narrow) == narrow


@pytest.mark.slow
def test_torch_compile_keeps_the_gradients_of_each() -> None:
    assert compiled("aot_eager", NAMES) == NAMES


def smallest_of_each_kind() -> list[str]:
    """Name the smallest network of each kind of modules, in 2D and 3D: the others differ in widths and depth alone."""
    smallest: dict[frozenset[object], tuple[int, str]] = {}
    for name in NAMES:
        network = built(name)
        is_2d = (1, 3, 3) in {module.kernel_size for module in network.modules() if isinstance(module, nn.Conv3d)}
        kind = frozenset({is_2d, *map(type, network.modules())})
        found = sum(parameter.numel() for parameter in network.parameters()), name
        smallest[kind] = min(found, smallest.get(kind, found))
    return sorted(name for _, name in smallest.values())


@pytest.mark.slow
def test_torch_compile_makes_each_kind_into_code() -> None:
    names = smallest_of_each_kind()
    assert len(names) > 3
    assert compiled("inductor", names) == names
