"""The grey values of the cache and of the network."""

from typing import Final

from jaxtyping import Float, UInt8
from torch import Tensor

OUTSIDE: Final = 170
"""Grey value put outside the lungs and beyond the volume's edge: that of soft tissue (grt123)."""


def normalise(ct: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bring grey values 0..255 to about -1..1.

    >>> import torch
    >>> normalise(torch.tensor([0, 128, 192], dtype=torch.uint8)).tolist()
    [-1.0, 0.0, 0.5]
    """
    return (ct.float() - 128) / 128
