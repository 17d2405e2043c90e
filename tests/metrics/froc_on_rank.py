"""One of several gloo processes: score a share of the scans of a random case and print what `compute` gives.

Called as `froc_on_rank.py RANK WORLD_SIZE MEETING_FILE`; prints one JSON line for each way of sharing.
"""

import json
import os
import sys

import torch
import torch.distributed

from nodule_lightning.metrics.froc import FROC
from nodule_lightning.structures import Candidates, Findings
from tests.metrics.cases import Case, random_case

# A case of seven scans.
SEED = 215
SCANS = 7


def shares(world_size: int) -> dict[str, list[list[int]]]:
    """Share the scans of the case among the ranks in several ways."""
    even = [list(range(rank, SCANS, world_size)) for rank in range(world_size)]
    single = list(range(1, world_size))
    ways = {
        "even": even,
        "uneven": [[0, *range(world_size, SCANS)], *([scan] for scan in single)],
        "repeated": [[*scans, 0, 2, *scans] for scans in even],
        "the same": [list(range(SCANS)) for _ in even],
        "nothing": [[] for _ in even],
    }
    for full in range(world_size):
        ways[f"all but {full} are empty"] = [list(range(SCANS)) if rank == full else [] for rank in range(world_size)]
    return ways


def add_scans(metric: FROC, case: Case, scans: list[int]) -> None:
    marks, nodules, excluded = case.candidates.by_scan(), case.nodules.by_scan(), case.excluded.by_scan()
    for scan in scans:
        name = case.scan_ids[scan]
        metric.update(
            scan,
            marks.get(name, Candidates.empty()),
            nodules.get(name, Findings.empty()),
            excluded.get(name, Findings.empty()),
        )


def main() -> None:
    rank, world_size, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    metric = FROC()
    for name, scans in shares(world_size).items():
        metric.reset()
        add_scans(metric, random_case(SEED), scans[rank])
        values = {key: value.item() for key, value in metric.compute().items()}
        print(json.dumps({name: values}), flush=True)
    torch.distributed.barrier()
    # Gloo's threads now and then abort a process that is done and takes itself down in order.
    os._exit(0)


if __name__ == "__main__":
    main()
