"""Free memory: of a GPU, of the machine, or of the container or cluster job that this process runs in."""

import os
import re
from pathlib import Path
from typing import Final

import torch

# Shares of the free memory that a search takes; in RAM, the scans that are prepared ahead need the rest.
SHARE_OF_GPU: Final = 0.8
SHARE_OF_RAM: Final = 0.5

# Of each cgroup version: the controller, the files with limit and usage, and the field with the reclaimable part.
_VERSION_2: Final = ("", "memory.max", "memory.current", "inactive_file")
_VERSION_1: Final = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_bytes(device: torch.device) -> float:
    """Return the memory that a search may take on a device: a share of what is free there now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # torch's caching allocator holds this memory without using it.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return SHARE_OF_GPU * (free + unused)
    return SHARE_OF_RAM * free_ram_bytes()


def free_ram_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the RAM that this process can still allocate, within the limits of its container or cluster job.

    Args:
        proc: Linux's `/proc`; on other systems all of the machine's memory counts as free.
        groups: Linux's tree of control groups (cgroups, version 1 or 2).
    """
    match = re.search(r"MemAvailable:\s+(\d+) kB", _text(proc / "meminfo"))
    free = 1024.0 * int(match[1]) if match else float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for kind in (_VERSION_2, _VERSION_1):
        folder = groups / kind[0]
        place = folder / _own_group(_text(proc / "self" / "cgroup"), kind[0])
        for level in (place, *place.parents):
            if level == folder or folder in level.parents:
                free = min(free, _left_in(level, *kind[1:]))
    return free


def _left_in(group: Path, limit: str, use: str, reclaimable: str) -> float:
    """Return what is left below a cgroup's limit; the page cache of files can be dropped and does not count as used."""
    most, used = _text(group / limit).strip(), _text(group / use).strip()
    if not most.isdecimal() or not used.isdecimal():
        return float("inf")
    match = re.search(rf"^{reclaimable} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
    return max(float(most) - float(used) + (float(match[1]) if match else 0.0), 0.0)


def _own_group(cgroup: str, controller: str) -> str:
    parts = [line.split(":", 2) for line in cgroup.splitlines()]
    return next((path.lstrip("/") for _, names, path in parts if controller in names.split(",")), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
