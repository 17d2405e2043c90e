"""Objects from configuration: wrong keys, refused values, and what a checkpoint may ask for."""

from typing import Any

import pytest
from hydra.errors import InstantiationException

from nodule_lightning.config.instantiate import instantiate, instantiate_trusted, members
from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.errors import InputError

ANCHORS = "nodule_lightning.detection.anchors.AnchorGrid"


def test_lists_become_plain_lists_at_any_depth() -> None:
    built = instantiate({"_target_": "builtins.dict", "deep": [{"_target_": ANCHORS, "diameters_mm": [4, 8]}]})
    assert isinstance(built["deep"], list)
    assert built["deep"][0].diameters_mm == (4.0, 8.0)


def test_what_is_null_is_no_member() -> None:
    assert members({"first": {"_target_": ANCHORS}, "progress": None, "last": 0}) == [{"_target_": ANCHORS}, 0]


def test_a_wrong_key_names_the_right_one() -> None:
    with pytest.raises(InputError, match=r"AnchorGrid .*'diameter_mm'; did you mean diameters_mm\?") as error:
        instantiate({"_target_": ANCHORS, "diameter_mm": [4]})
    assert error.value.key == "argument-unknown"


def test_a_refused_value_stays_an_input_error() -> None:
    with pytest.raises(InputError) as error:
        instantiate({"_target_": ANCHORS, "diameters_mm": [-4]})
    with pytest.raises(InputError) as direct:
        AnchorGrid([-4])
    assert error.value.key == "argument-invalid"
    assert str(error.value) == str(direct.value)


def test_a_refusal_in_pythons_own_words_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"AnchorGrid") as error:
        instantiate({"_target_": ANCHORS, "diameters_mm": ["large"]})
    assert error.value.key == "argument-invalid"
    with pytest.raises(InputError, match=r"'backbone' .*AnchorDetector") as error:
        instantiate({"_target_": "nodule_lightning.models.heads.AnchorDetector", "anchors": {"_target_": ANCHORS}})
    assert error.value.key == "argument-invalid"


def test_a_value_of_the_wrong_type_is_refused_before_anything_is_built() -> None:
    with pytest.raises(InputError, match=r"AnchorGrid: stride .*'wide'.*spacing_mm .*True") as error:
        instantiate({"_target_": ANCHORS, "stride": "wide", "spacing_mm": True})
    assert error.value.key == "argument-invalid"
    optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": "fast"}
    with pytest.raises(InputError, match=r"lr .*'fast'") as error:
        instantiate({"_target_": "builtins.dict", "optimizer": optimizer})
    assert error.value.key == "argument-invalid"


def test_a_bug_in_a_constructor_stays_one() -> None:
    with pytest.raises(InstantiationException):
        instantiate({"_target_": "fractions.Fraction", "numerator": 1, "denominator": 0})


def test_an_unknown_target_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no_such") as error:
        instantiate({"_target_": "nodule_lightning.no_such.Thing"})
    assert error.value.key == "argument-unknown"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "nodule_lightning.training.module.torch.hub.load",
        "nodule_lightning.cache.replacing.shutil.rmtree",
        "nodule_lightning.cache.entries.Path",
        "nodule_lightning.io.tables.write_scan_ids",
        "torch.nn.init.constant_",
        "nodule_lightningx.Thing",
    ],
)
def test_a_checkpoint_may_only_ask_for_parts_of_a_detector(target: str) -> None:
    config: dict[str, Any] = {"_target_": ANCHORS, "diameters_mm": [{"_target_": target}]}
    with pytest.raises(InputError) as error:
        instantiate_trusted(config)
    assert error.value.key == "file-unsafe"
    assert target in str(error.value)


def test_a_checkpoint_may_ask_for_parts_of_a_detector() -> None:
    assert isinstance(instantiate_trusted({"_target_": ANCHORS}), AnchorGrid)
    assert instantiate_trusted({"_target_": "torch.nn.ReLU"}) is not None
