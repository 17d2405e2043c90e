"""What loggers are told of a run's settings."""

import json

from hydra import compose, initialize_config_module

import nodule_lightning
from nodule_lightning.config.instantiate import plain
from nodule_lightning.training.logged_settings import settings_to_log
from nodule_lightning.training.plan import decide_auto

PLACES = (
    "cache=/data/Secret/cache",
    "paths.output=/data/Secret",
    "+data.dirpath=Secret",
    "+trainer.profiler.dirpath=Secret",
    "+trainer.plugins=[/data/Secret,{file:/data/Secret}]",
    "trainer.default_root_dir=Secret",
    "++model.backbone.weights_path=Secret",
    "data.root=Secret",
    "data.annotations=Secret.csv",
)


def test_all_settings_are_logged_and_no_path() -> None:
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        config = compose("train", ["experiment=demo", "data=folder", *PLACES], return_hydra_config=True)
    choices = config.hydra.runtime.choices
    del config.hydra
    values = settings_to_log(config, choices, decide_auto(plain(config.trainer)))
    assert "Secret" not in json.dumps(values)
    assert values["version"] == nodule_lightning.__version__
    assert values["choices"]["model"] == "res_unet_narrow"
    assert values["name"] == "demo"
    assert values["data"]["validation_fraction"] == 0.15
    assert values["datamodule"]["patch_voxels"] == 48
    assert values["trainer"]["precision"] in ("32-true", "bf16-mixed")
    # What the stages take from the groups stands with them.
    stage = values["curriculum"]["stages"]["only"]
    assert stage["loss"]["hard_per_patch"] == 6
    assert stage["sampler"]["negative_share"] == 0.3
    assert values["callbacks"]["scan_mining"]["most_per_scan"] == 20
    # Of the groups that training is made of, each is there.
    assert set(config) - set(values) == {
        "cache",
        "resume",
        "rehearsal",
        "recipe",
        "paths",
        "logger",
        "module",
        "loss",
        "sampler",
    }
