"""The questions of the study, and the run folders that answer them."""

from typing import Final

REFERENCE: Final = {
    "model": "res_unet_narrow",
    "assign": "centres",
    "sampler": "balanced",
    "loss": "hard_mining",
    "curriculum.stages.only.bank_share": "0.0",
}
"""The choices of `experiment=ablation` itself."""

QUESTIONS: Final = {
    "sampling": "sampler=natural,balanced",
    "loss": "loss=hard_mining,weighted",
    "mining": "curriculum.stages.only.bank_share=0.0,0.5",
    "assignment": "assign=iou,centres",
    "depth": "model=plain_unet_narrow,res_unet_narrow,plain_unet_narrow_deep,res_unet_narrow_deep",
    "dimensions": "model=unet2d_narrow,unet3d_narrow",
}
"""The override of `nodule-train` that each question sweeps over."""

SEEDS: Final = (0, 1, 2)


def arms(override: str) -> dict[str, str]:
    """Return the run folder of each value of a sweep, as `experiment=ablation` names it.

    >>> arms("loss=weighted")
    {'weighted': 'res_unet_narrow,centres,balanced,weighted,bank=0.0'}
    """
    key, _, values = override.partition("=")
    if key not in REFERENCE:
        raise ValueError(f"{key} is not in the names of the folders: two arms would be one")
    chosen = {value: {**REFERENCE, key: value} for value in values.split(",")}
    return {value: "{},{},{},{},bank={}".format(*choices.values()) for value, choices in chosen.items()}
