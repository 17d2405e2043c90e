"""Folding of batch norm into the preceding convolutions, for inference."""

import copy
from itertools import pairwise
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nodule_lightning.models.heads import DetectionNetwork


def folded(network: DetectionNetwork) -> DetectionNetwork:
    """Copy a network in evaluation mode and merge each batch norm that follows a convolution into that convolution.

    The copy computes the same function with fewer operations: at full resolution a norm needs as much memory as its
    convolution. The network itself is not changed.
    """
    result = copy.deepcopy(network).eval()
    for module in list(result.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    # Folding creates new weights in torch's default memory format.
    result.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return result


def _fold_sequence(sequence: nn.Sequential) -> None:
    for (place, former), (next_place, norm) in pairwise(list(sequence.named_children())):
        if isinstance(former, nn.Conv3d | nn.ConvTranspose3d) and _has_fixed_statistics(norm):
            is_transposed = isinstance(former, nn.ConvTranspose3d)
            sequence.register_module(place, fuse_conv_bn_eval(former, norm, transpose=is_transposed))
            sequence.register_module(next_place, nn.Identity())


def _has_fixed_statistics(norm: nn.Module) -> TypeGuard[nn.BatchNorm3d | nn.SyncBatchNorm]:
    return isinstance(norm, nn.BatchNorm3d | nn.SyncBatchNorm) and norm.running_mean is not None
