"""Any path comes through the command line, the configuration and the building of objects as it was typed."""

from pathlib import Path, PurePath

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.config.quoting import as_typed, escape_interpolations, quote_path_arguments

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
    [typed] = as_typed([argument], ["data.root"])
    assert quote_path_arguments([typed], ["data.root"]) == [argument]
    # Lightning's child processes get the quoted form and quote it again.
    assert quote_path_arguments([argument], ["data.root"]) == [argument]


@given(st.lists(TRICKY.filter(lambda text: not has_own_meaning(text.strip())), max_size=4), st.sampled_from(["", "+"]))
def test_a_list_of_paths_comes_back(texts: list[str], plus: str) -> None:
    items = [QuotedString(escape_interpolations(text), Quote.single).with_quotes() for text in texts]
    [argument] = quote_path_arguments([f"{plus}scans=[{','.join(items)}]"], ["scans"], ["scans"])
    assert OverridesParser.create().parse_override(argument).value() == [escape_interpolations(text) for text in texts]
    assert quote_path_arguments([argument], ["scans"], ["scans"]) == [argument]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("[a.csv,b (1).csv]", ["a.csv", "b (1).csv"]),
        ("[ 'a, b.csv' , 肺=[1].csv ]", ["a, b.csv", "肺=[1].csv"]),
        ("[]", []),
        ("[a,]", ["a", ""]),
        ("[,]", ["", ""]),
        ("[it's,null]", ["it's", None]),
    ],
)
def test_a_list_is_read_as_it_was_typed(typed: str, read: list[str | None]) -> None:
    [argument] = quote_path_arguments([f"scans={typed}"], ["scans"], ["scans"])
    assert OverridesParser.create().parse_override(argument).value() == read
    # Where no list is wanted, it is a path like any other.
    [argument] = quote_path_arguments([f"scans={typed}"], ["scans"])
    assert OverridesParser.create().parse_override(argument).value() == typed


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
