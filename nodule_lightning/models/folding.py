"""Fold batch norm into the convolutions before it, where a network only searches and no longer learns."""

import copy
from itertools import pairwise
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nodule_lightning.models.heads import DetectionNetwork


def folded(network: DetectionNetwork) -> DetectionNetwork:
    """Give a copy in evaluation mode, in which each batch norm that follows a convolution in a sequence is part of it.

    The copy computes the same, with fewer and smaller steps: at full size a norm costs as much memory as its
    convolution. The network itself is left as it is.
    """
    result = copy.deepcopy(network).eval()
    for module in list(result.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    # Folding makes new weights, in torch's own order of axes.
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
