"""Free memory is that of the machine, or of the container or cluster job around this process."""

from pathlib import Path

import torch

from nodule_lightning.search.free_memory import SHARE_OF_RAM, available_bytes, free_ram_bytes

MIB = 2**20


def machine(folder: Path, cgroup: str) -> Path:
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  9999999 kB\nMemAvailable:  4096000 kB\n")
    (proc / "self" / "cgroup").write_text(cgroup)
    return proc


def write(folder: Path, **values: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_a_machine_without_limits(tmp_path: Path) -> None:
    proc = machine(tmp_path, "0::/\n")
    assert free_ram_bytes(proc, tmp_path / "none") == 4096000 * 1024
    write(tmp_path / "groups", memory__max="max", memory__current=str(10**9))
    assert free_ram_bytes(proc, tmp_path / "groups") == 4096000 * 1024


def test_the_tightest_group_counts_and_files_that_were_read_do_not(tmp_path: Path) -> None:
    proc = machine(tmp_path, "0::/slurm/job_7/step_0\n")
    job = tmp_path / "groups" / "slurm" / "job_7"
    write(job / "step_0", memory__max="max", memory__current=str(50 * MIB))
    write(job, memory__max=str(900 * MIB), memory__current=str(500 * MIB), memory__stat=f"inactive_file {100 * MIB}")
    assert free_ram_bytes(proc, tmp_path / "groups") == 500 * MIB


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    proc = machine(tmp_path, "5:cpu:/other\n4:memory:/docker/abc\n0::/\n")
    group = tmp_path / "groups" / "memory" / "docker" / "abc"
    write(group, **{"memory__limit_in_bytes": str(300 * MIB), "memory__usage_in_bytes": str(400 * MIB)})
    assert free_ram_bytes(proc, tmp_path / "groups") == 0


def test_a_machine_that_tells_nothing_counts_whole(tmp_path: Path) -> None:
    assert free_ram_bytes(tmp_path, tmp_path) > 10**8


def test_the_cpu_gives_a_share() -> None:
    assert 0 < available_bytes(torch.device("cpu")) <= SHARE_OF_RAM * free_ram_bytes() * 1.2
