"""The provenance of a run: code, data and machine, with and without git."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nodule_lightning
from nodule_lightning.cache.entries import open_entry, update_labels, write_entry
from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.provenance import (
    SearchRecord,
    describe_code,
    describe_machine,
    describe_versions,
    fingerprint_data,
)
from nodule_lightning.structures import Findings, Labels
from tests.commands import write_cache


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a checkout that the package seems to run from, with a working folder in another one."""
    for name in ("code/nodule_lightning", "work"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        git(folder.parent if name != "work" else folder, "init", "-q")
    code, work = tmp_path / "code", tmp_path / "work"
    for folder in (code, work):
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", folder.name)
    monkeypatch.setattr(nodule_lightning, "__file__", str(code / "nodule_lightning" / "__init__.py"))
    monkeypatch.chdir(work)
    return code


def test_commit_and_state_of_the_code_and_of_the_working_folder(checkout: Path) -> None:
    code = describe_code()
    assert [len(code[name]["commit"]) for name in ("package", "working_folder")] == [40, 40]
    assert code["package"]["commit"] != code["working_folder"]["commit"]
    assert not code["package"]["changed"]
    (checkout / "outputs.csv").write_text("untracked")
    assert describe_code() == code
    (checkout / "nodule_lightning" / "__init__.py").write_text("changed = True")
    assert describe_code()["package"]["changed"]
    assert str(checkout.parent) not in json.dumps(code)


def test_a_working_folder_in_the_packages_own_checkout_is_described_once(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    assert describe_code()["working_folder"] is None
    assert describe_code()["package"]


def test_a_package_that_is_installed_in_somebodys_checkout_is_none_of_its_files(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout / "venv" / "nodule_lightning" / "__init__.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    monkeypatch.setattr(nodule_lightning, "__file__", str(installed))
    assert describe_code()["package"] is None


@pytest.mark.parametrize("program", [None, "exit 1", "sleep 60"])
def test_a_git_that_is_missing_or_fails_or_hangs_is_no_matter(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    (tmp_path / "bin").mkdir()
    if program is not None:
        (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin exec sh -c '{program}'\n")
        (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("nodule_lightning.evaluation.provenance.GIT_TIMEOUT_S", 0.3)
    assert describe_code() == {"package": None, "working_folder": None}


def test_a_checkouts_own_monitor_is_not_run(checkout: Path, tmp_path: Path) -> None:
    ran = tmp_path / "it ran"
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    monitor.chmod(0o755)
    git(checkout, "config", "core.fsmonitor", str(monitor))
    assert describe_code()["package"]
    assert not ran.exists()
    git(checkout, "status")
    assert ran.exists()


def test_the_fingerprint_changes_with_the_data_alone(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", ["one", "two"])
    first = fingerprint_data(cache)
    assert first["scans"] == 2
    assert fingerprint_data(write_cache(tmp_path / "again", ["two", "one"][::-1])) == first
    seen = {first["sha256"]}

    def changed() -> bool:
        fresh = fingerprint_data(cache)["sha256"]
        is_new = fresh not in seen
        seen.add(fresh)
        return is_new

    entry = open_entry(cache, "one")
    # The times of the raw files, which another machine has otherwise.
    write_entry(cache, replace(entry, record={**entry.record, "source": "other"}))
    assert not changed()
    nodule = Findings(np.array([[1.0, 2.0, 3.0]]), np.array([5.0]))
    update_labels(cache, "one", Labels("0", nodule))
    assert changed()
    update_labels(cache, "one", Labels("0", nodules=Findings.empty(), excluded=nodule))
    assert changed()
    update_labels(cache, "one", Labels("7", nodules=Findings.empty(), excluded=nodule))
    assert changed()
    write_entry(cache, replace(entry, settings={**entry.settings, "spacing_mm": 2.0}))
    assert changed()
    write_entry(cache, replace(entry, scan_id="three"))
    assert changed()


def test_versions_and_machine() -> None:
    versions = describe_versions()
    assert versions["nodule_lightning"] == nodule_lightning.__version__
    assert all(versions[name] for name in ("python", "torch", "pytorch-lightning", "hydra-core", "numpy"))
    machine = describe_machine()
    assert 1 <= machine["cores"] <= (os.cpu_count() or 1)
    assert machine["memory_gb"] > 0.1
    assert os.uname().nodename not in json.dumps(machine).split('"')


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"training": 3}', "nonsense"])
def test_a_damaged_record_of_a_search_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prediction.json"
    path.write_text(content)
    for file, key in ((path, "file-damaged"), (tmp_path / "gone.json", "file-missing"), (tmp_path, "file-unreadable")):
        with pytest.raises(InputError) as error:
            SearchRecord.read(file)
        assert error.value.key == key
        assert str(file) in str(error.value)


@pytest.mark.parametrize(("reducer", "network"), [(None, "ResUNet"), ({"sha256": "0"}, "ResUNet, second stage")])
def test_the_record_of_a_search_names_a_second_stage(
    tmp_path: Path, reducer: dict[str, str] | None, network: str
) -> None:
    path = tmp_path / "prediction.json"
    record = {
        "network": {"name": "ResUNet", "parameters": 5},
        "versions": {"nodule_lightning": "1"},
        "training": {"froc": 0.5},
        "reducer": reducer,
        "scans": 4,
        "seconds": 2.0,
    }
    path.write_text(json.dumps(record))
    assert SearchRecord.read(path) == SearchRecord(network, 5, "1", 4, 2.0, 0.5)
    path.write_text(json.dumps({**record, "training": None}))
    assert SearchRecord.read(path).validation_froc is None
