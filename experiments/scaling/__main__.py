"""How much does a second process gain, and what bandwidth of network and disk would 64 GPUs need?

    python -m experiments.scaling outputs/scaling

Trains a few steps of `experiment=luna16` in one process, in two independent processes, and in two that share their
gradients through gloo, each on one core; then cuts patches with a cold and with a warm cache. The phantoms are made if
the folder has none.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.bench.training import composed, phantom_cache
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.data.datamodule import NoduleDataModule

IO = Path("/proc/self/io")


def trainings(cache: Path, alone: int = 0, together: int = 0) -> list[dict[str, Any]]:
    """Train in several independent processes, or in one distributed training, with one core for each process."""
    program = Path(sys.executable).with_name("torchrun")
    starts = [1] * alone or [together]
    cores = iter(sorted(os.sched_getaffinity(0)))
    running = [
        subprocess.Popen(
            [
                *("taskset", "--cpu-list", ",".join(str(next(cores)) for _ in range(processes))),
                *(str(program), "--standalone", f"--nproc-per-node={processes}"),
                *("--module", "experiments.scaling.steps", str(cache), "datamodule.batch_size=2"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for processes in starts
    ]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]


def forget(cache: Path) -> None:
    """Drop a cache from the page cache, so that it is read from the disk again."""
    os.sync()
    for path in cache.glob("scans/*/*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_read() -> int:
    """Return the bytes that this process has read from a disk since it started."""
    lines = dict(line.split(": ") for line in IO.read_text(encoding="ascii").splitlines())
    return int(lines["read_bytes"])


def reading(cache: Path) -> Iterator[str]:
    """Cut the patches of an epoch from a cold cache, then from a warm one."""
    config = composed(cache, "datamodule.workers=0", "sampler.patches_per_epoch=64", experiment="luna16")
    size = sum(path.stat().st_size for path in cache.glob("scans/*/*.npy"))
    for state in ("cold", "warm"):
        if state == "cold":
            forget(cache)
        datamodule: NoduleDataModule = instantiate(config.datamodule)
        datamodule.setup("fit")
        batches = datamodule.train_dataloader()
        read, began = bytes_read(), time.perf_counter()
        patches = sum(map(len, batches))
        seconds = time.perf_counter() - began
        yield (
            f"{state} cache of {size / 1e6:.0f} MB, one core: {patches / seconds:.0f} patches a second, "
            f"{(bytes_read() - read) / patches / 1e6:.2f} MB from the disk for each"
        )


def main() -> None:
    """Measure, and print one line for each figure."""
    folder = Path(sys.argv[1])
    cache = folder / "cache"
    if not cache.exists():
        phantom_cache(folder, "realistic")
    (one,) = trainings(cache, alone=1)
    apart = trainings(cache, alone=2)
    (both,) = trainings(cache, together=2)
    print(f"gradients of a step: {both['gradient_bytes'] / 1e6:.1f} MB; batches of {one['batch']}, {one['patch']}^3")
    rows = {
        "one process": one["batch"] / one["step_s"],
        "two, unconnected": sum(each["batch"] / each["step_s"] for each in apart),
        "two, one training": 2 * both["batch"] / both["step_s"],
    }
    for name, rate in rows.items():
        print(f"{name}: {rate:.3g} patches a second, {rate / rows['one process']:.3g} times one process")
    print(f"the gradients added over gloo, nothing else: {both['exchange_s'] * 1e3:.3g} ms of {both['step_s']:.3g} s")
    print(*reading(cache), sep="\n")


if __name__ == "__main__":
    main()
