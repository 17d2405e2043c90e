"""What a run was made of: versions, code, data and machine. No path is among it, since a path may name a patient."""

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
_GIT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """What a leaderboard shows of how a submission was made.

    Attributes:
        network: its classes, and whether there was a second stage.
        parameters: of the network, without those of a second stage.
        version: of this package.
        scans: that were searched.
        seconds: that it took, reading and preparing the scans included.
        validation_froc: of the checkpoint in its training; None where that is not known.
    """

    network: str
    parameters: int
    version: str
    scans: int
    seconds: float
    validation_froc: float | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `nodule-predict` wrote beside its submission.

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
            raise InputError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged; make the search again") from None


def describe_versions() -> dict[str, str | None]:
    """Give the versions of Python and of what decides a result; None for a package that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    found["nodule_lightning"] = nodule_lightning.__version__
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def describe_machine() -> dict[str, Any]:
    """Give processor, cores that this process may use, memory in GB and GPUs, but not the machine's name."""
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
    """Give commit and state of the checkout that this package runs from, and of the one of the working folder.

    Each is None where there is no git checkout, or no git. A package that is installed, though it may lie inside
    somebody's checkout, is none of its files. `changed` says whether a file that git knows differs from the commit.
    """
    package = Path(nodule_lightning.__file__).parent
    is_checkout = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    own, here = (_git(folder, "rev-parse", "--show-toplevel") for folder in (package, Path.cwd()))
    return {
        "package": _commit(package) if is_checkout else None,
        "working_folder": None if is_checkout and here == own else _commit(Path.cwd()),
    }


def describe_network(network: "torch.nn.Module") -> dict[str, Any]:
    """Name a network by its classes, and give the number of its parameters."""
    backbone = getattr(network, "backbone", None)
    return {
        "name": " ".join(type(part).__name__ for part in (backbone, network) if part is not None),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def fingerprint_data(cache: Path) -> dict[str, Any]:
    """Give one number that changes when the prepared data do.

    It covers the id of each scan of the cache, and of its `scan.json` the grids, the settings, the labels and what
    preparing has measured; so it changes with any annotation, subset, voxel size or lung mask. The voxels themselves
    are not read: a thousand scans would take minutes. The digest of the raw files, which holds their times, is left
    out, so that the same data prepared on another machine has the same number.

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
    """Give the SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


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
    # Outputs that nobody ignored are no change of the code.
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """Ask git; None where it is missing, refuses or takes too long."""
    # A checkout of somebody else's may name a program to be run as its monitor.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    # Inside a git hook these name another checkout.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ended = subprocess.run(
            command, check=True, capture_output=True, encoding="utf-8", env=own, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return ended.stdout.strip()
