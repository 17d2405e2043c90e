"""`python compiled.py BACKEND NAME ...`: compile networks of conf/model as one graph; compare maps and gradients.

A process of its own, because the checks of shapes in the tests' process cannot be compiled.
"""

import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from nodule_lightning.models.heads import DetectionNetwork
from tests.models.networks import built

IMAGES = torch.randn(2, 1, 16, 16, 32, generator=torch.Generator().manual_seed(0))
POSITION = torch.tensor([[-1.0, 0.3]]).expand(2, 3, 2)


def main(backend: str, *names: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = maps if backend == "eager" else maps_and_gradients
    for name in names:
        network = built(name)
        # Each run would drop other channels.
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout3d):
                module.p = 0.0
        compiled = torch.compile(network, backend=backend, fullgraph=True)
        for expected, found in zip(results(network, network), results(compiled, network), strict=True):
            torch.testing.assert_close(found, expected, atol=2e-3 * float(expected.abs().max()), rtol=0)
        torch.compiler.reset()
        print(name, flush=True)


@torch.no_grad()
def maps(forward: Callable[..., Tensor], network: DetectionNetwork) -> list[Tensor]:
    return [forward(IMAGES, POSITION)]


def maps_and_gradients(forward: Callable[..., Tensor], network: DetectionNetwork) -> list[Tensor]:
    """Compute the maps and the gradients of the weights of the first and the last convolution.

    With fixed statistics: those of the few voxels here would turn the last digit of a map into another gradient.
    """
    network.eval().zero_grad()
    result = forward(IMAGES, POSITION)
    torch.autograd.backward(result[..., 0].sum())
    weights = [module.weight for module in network.modules() if isinstance(module, torch.nn.Conv3d)]
    return [result.detach(), *(weight.grad for weight in (weights[0], weights[-1]) if weight.grad is not None)]


if __name__ == "__main__":
    main(*sys.argv[1:])
