"""Change a batch at random on its device; boxes follow exactly."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from nodule_lightning.data.intensity import normalise
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.errors import InputError


class Augment:
    """Mirror patches and change their contrast and brightness, each patch by its own lot.

    Args:
        mirror_axes: spatial axes (0 z, 1 y, 2 x) that are mirrored in half of the patches.
        gain: contrast is multiplied by 1 +- this at most.
        shift: brightness is moved by +- this at most, in units of the normalised image (1 is 900 HU with the usual
            window).
    """

    def __init__(self, mirror_axes: Sequence[int] = (0, 1, 2), gain: float = 0.0, shift: float = 0.0) -> None:
        if not set(mirror_axes) <= {0, 1, 2} or not 0 <= gain < 1 or shift < 0:
            raise InputError(
                f"augmentation needs axes of 0, 1, 2, a gain within 0..1 and a shift >= 0, "
                f"not {list(mirror_axes)}, {gain} and {shift}"
            )
        self.mirror_axes = tuple(mirror_axes)
        self.gain = gain
        self.shift = shift

    def __call__(
        self, batch: PatchBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "b 1 z y x"], Float32[Tensor, "b box 4"]]:
        """Give the normalised images and the boxes; the generator must be on the batch's device."""
        image, boxes = batch.image, batch.boxes
        lots = torch.rand((len(batch), 5), generator=generator, device=image.device)
        for axis in self.mirror_axes:
            image, boxes = mirror(image, boxes, axis, lots[:, axis] < 0.5)
        change = 2 * lots[:, 3:, None, None, None, None] - 1
        normal = normalise(image)
        if self.gain or self.shift:
            normal = normal * (1 + self.gain * change[:, 0]) + self.shift * change[:, 1]
        return normal, boxes


def mirror(
    image: Tensor, boxes: Float32[Tensor, "b box 4"], axis: int, chosen: Tensor
) -> tuple[Tensor, Float32[Tensor, "b box 4"]]:
    """Mirror the chosen patches along a spatial axis."""
    last = image.shape[axis + 2] - 1
    mirrored = boxes.clone()
    mirrored[..., axis] = last - boxes[..., axis]
    return (
        torch.where(chosen[:, None, None, None, None], image.flip(axis + 2), image),
        torch.where(chosen[:, None, None], mirrored, boxes),
    )
