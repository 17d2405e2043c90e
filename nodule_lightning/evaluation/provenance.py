"""Provenance of a run: versions, code, data and machine, but no paths, since a path may name a patient."""

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import nodule_lightning
from nodule_lightning.cache.entries import list_entries, read_description
from nodule_lightning.errors import InputError

if TYPE_CHECKING:
    import torch.nn

PACKAGES: Final = ("torch", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "SimpleITK")
GIT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """How a submission was made, as shown in a leaderboard.

    Attributes:
        network: class names of the network, and whether there was a second stage.
        parameters: number of parameters of the network, without a second stage.
        version: of this package.
        scans: number of searched scans.
        seconds: duration of the search, including reading and preparing the scans.
        validation_froc: FROC of the checkpoint in its training; None if that is not known.
    """

    network: str
    parameters: int
    version: str
    scans: int
    seconds: float
    validation_froc: float | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record that `nodule-predict` writes beside its submission.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            training = values["training"]
            froc = None if training is None else training["froc"]
            name = str(values["network"]["name"])
            return cls(
                f"{name}, second stage" if values["reducer"] else name,
                int(values["network"]["parameters"]),
                str(values["versions"]["nodule_lightning"]),
                int(values["scans"]),
                float(values["seconds"]),
                None if froc is None else float(froc),
            )
        except OSError as error:
            raise _unreadable(path, error) from None
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged; repeat the search", "file-damaged") from None


def describe_versions() -> dict[str, str | None]:
    """List the versions of Python and of the packages that affect results; None for a package not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    found["nodule_lightning"] = nodule_lightning.__version__
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def describe_machine() -> dict[str, Any]:
    """Describe processor, usable cores, memory in GB and GPUs, but not the machine's name."""
    import torch

    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(usable),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def describe_code() -> dict[str, Any]:
    """Describe the git commit and state of the checkout of this package, and of the working folder's.

    Each is None without a git checkout or without git. An installed package is not part of a checkout in whose folder
    its environment happens to lie. `changed` tells whether a tracked file differs from the commit.
    """
    package = Path(nodule_lightning.__file__).parent
    is_checkout = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    own, here = (_git(folder, "rev-parse", "--show-toplevel") for folder in (package, Path.cwd()))
    return {
        "package": _commit(package) if is_checkout else None,
        "working_folder": None if is_checkout and here == own else _commit(Path.cwd()),
    }


def describe_network(network: "torch.nn.Module") -> dict[str, Any]:
    """Describe a network by its class names and number of parameters."""
    backbone = getattr(network, "backbone", None)
    return {
        "name": " ".join(type(part).__name__ for part in (backbone, network) if part is not None),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def fingerprint_data(cache: Path) -> dict[str, Any]:
    """Compute a fingerprint of the prepared data, a SHA-256 that changes when they do.

    It covers the id of each cached scan and, from its `scan.json`, the grids, the settings, the labels and the
    measurements of the preparation. So it changes with any annotation, subset, voxel size or lung mask. The voxels
    themselves are not read, which would take minutes for a thousand scans. The digest of the raw files is left out
    because it includes their modification times: the same data prepared on another machine have the same fingerprint.

    Raises:
        InputError: an entry is damaged.
    """
    scan_ids = list_entries(cache)
    total = hashlib.sha256()
    for scan_id in scan_ids:
        there = read_description(cache, scan_id)
        record = {name: value for name, value in there["record"].items() if name != "source"}
        total.update(json.dumps([scan_id, {**there, "record": record}], sort_keys=True).encode())
    return {"sha256": total.hexdigest(), "scans": len(scan_ids)}


def fingerprint_file(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> InputError:
    is_missing = isinstance(error, FileNotFoundError)
    return InputError(f"{path} cannot be read: {error.strerror}", "file-missing" if is_missing else "file-unreadable")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit(folder: Path) -> dict[str, Any] | None:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    # Untracked outputs are not changes of the code.
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """Run git and return its output; None if git is missing, fails or takes too long."""
    # The configuration of an untrusted checkout may name a program to run as its file system monitor.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    # Inside a git hook these variables point to another checkout.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ended = subprocess.run(
            command, check=True, capture_output=True, encoding="utf-8", env=own, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return ended.stdout.strip()
