"""Conversion of the cache's grey values into network input."""

from jaxtyping import Float, UInt8
from torch import Tensor


def normalise(ct: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map grey values 0..255 to about -1..1.

    >>> import torch
    >>> normalise(torch.tensor([0, 128, 192], dtype=torch.uint8)).tolist()
    [-1.0, 0.0, 0.5]
    """
    return (ct.float() - 128) / 128
