"""Any path comes through the command line, the configuration and the building of objects as it was typed."""

from pathlib import Path, PurePath

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nodule_lightning.cli._instantiate import instantiate
from nodule_lightning.cli._paths import quote_path_arguments

TRICKY = st.text("\\'\"${}[](),=:~ \t%@#!*?肺a1.-/", max_size=12)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), max_size=30)


def has_own_meaning(text: str) -> bool:
    quoted = text[:1] in ("'", '"') and text[:1] == text[-1:]
    return text == "null" or quoted


@given((TRICKY | ANY).filter(lambda text: not has_own_meaning(text)), st.sampled_from(["", "+", "++"]))
def test_any_path_comes_back_identical(text: str, plus: str) -> None:
    [argument] = quote_path_arguments([f"{plus}data.root={text}"], ["data.root"])
    value = OverridesParser.create().parse_override(argument).value()
    config = OmegaConf.create({"data": {"root": None}, "elsewhere": "${data.root}"})
    OmegaConf.update(config, "data.root", value)
    text = "./???" if text == "???" else text
    assert config.data.root == text
    assert config.elsewhere == text
    config.built = {"_target_": "pathlib.PurePath", "_args_": ["${data.root}"]}
    assert instantiate(config.built) == PurePath(text)
    # Lightning's child processes get the quoted form and quote it again.
    assert quote_path_arguments([argument], ["data.root"]) == [argument]


def test_other_arguments_are_left_alone() -> None:
    arguments = ["scans=16", "--help", "-m", "seed=0,1", "model.input=a b", "input", "=x", "~input", "input@x=y"]
    assert quote_path_arguments(arguments, ["input"]) == arguments


@pytest.mark.parametrize("value", ["'a b'", '"${paths.output}/x"', "null"])
def test_what_hydra_should_read_is_left_to_it(value: str) -> None:
    assert quote_path_arguments([f"input={value}"], ["input"]) == [f"input={value}"]


def test_a_file_of_that_very_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("'a'", "null"):
        (tmp_path / name).touch()
        [argument] = quote_path_arguments([f"input={name}"], ["input"])
        assert OverridesParser.create().parse_override(argument).value() == name
