"""Every YAML file composes, and every target in it can be imported and knows the keys that it is given."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from nodule_lightning.config.instantiate import check_keys, check_types, instantiate, targets
from nodule_lightning.config.signatures import imported
from nodule_lightning.errors import InputError
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.training.plan import decide_auto
from nodule_lightning.training.schedule import scheduler

CONF = Path(__file__).parent.parent / "conf"
PRIMARIES = sorted(path.stem for path in CONF.glob("*.yaml"))
# The command that uses a group; nodule-train uses all others.
PRIMARY_OF = {"phantom": "phantom", "lungs": "prepare", "reading": "prepare"}
# A group that only one choice of another group brings along.
BROUGHT_BY = {"classifier": "task=reduction"}
ENTRIES = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem)
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and "local" not in path.parts
)
# These need nothing but themselves to be built; the others need files or a running job.
BUILT = {"phantom", "lungs", "sampler", "augment", "model", "assign", "loss", "curriculum", "classifier", "reading"}


def composed(primary: str, *overrides: str) -> DictConfig:
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        return compose(primary, list(overrides), return_hydra_config=True)


def nodes(values: object) -> Iterator[dict[str, object]]:
    if isinstance(values, dict):
        if "_target_" in values:
            yield values
        for value in values.values():
            yield from nodes(value)
    elif isinstance(values, list):
        for value in values:
            yield from nodes(value)


def check(config: DictConfig) -> None:
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    del values["hydra"]
    if "trainer" in values:
        values["trainer"] = decide_auto(values["trainer"])
    for target, given in targets(values):
        check_keys(target, set(given))
        # The others stand for values of their own file.
        check_types(target, {key: value for key, value in given.items() if "${" not in str(value)})
    for node in nodes(values):
        signature = inspect.signature(imported(str(node["_target_"])))
        needed = {
            name
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }
        assert "_partial_" in node or needed <= set(node), node


@pytest.mark.parametrize("primary", PRIMARIES)
def test_every_command(primary: str) -> None:
    config = composed(primary)
    check(config)
    assert config.hydra.help.header.count(f"nodule-{primary} ") >= 3


@pytest.mark.parametrize(("group", "name"), ENTRIES, ids=lambda part: part)
def test_every_file(group: str, name: str) -> None:
    brought = [BROUGHT_BY[group]] if group in BROUGHT_BY else []
    config = composed(PRIMARY_OF.get(group, "train"), *brought, f"{group}={name}")
    check(config)
    assert config.hydra.runtime.choices[group] == name
    if group in BUILT:
        instantiate(config[group])


@pytest.mark.parametrize("name", [name for group, name in ENTRIES if group == "phantom"])
def test_every_value_of_a_phantom_is_turned_without_a_plus(name: str) -> None:
    config = composed("phantom", f"phantom={name}").phantom
    assert set(config) - {"_target_"} == set(inspect.signature(PhantomSettings).parameters)


@pytest.mark.parametrize("name", [name for group, name in ENTRIES if group == "data"])
def test_every_data_set_can_be_prepared(name: str) -> None:
    config = composed("prepare", f"data={name}")
    check(config)
    instantiate(config.preparation)


@pytest.mark.parametrize("name", [name for group, name in ENTRIES if group == "experiment"])
def test_every_experiment_says_what_it_is_for(name: str) -> None:
    header = (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    for word in ("Idea:", "Command:", "Hardware:", "Time:", "FROC:"):
        assert f"# {word} " in header


def test_the_narrow_network_and_its_optimizer_can_be_built() -> None:
    config = composed("train", "experiment=demo")
    network = instantiate(config.model)
    optimizer = instantiate(config.optim.optimizer)(network.parameters())
    made = scheduler(optimizer, instantiate(config.optim.schedule), instantiate(config.curriculum), 10, 1)
    assert made.get_last_lr()[0] <= config.optim.lr


def test_a_wrong_key_in_a_file_would_be_found() -> None:
    config = composed("train", "+loss.hard_per_ptach=3")
    with pytest.raises(InputError, match="did you mean hard_per_patch") as error:
        check(config)
    assert error.value.key == "argument-unknown"
