"""Search scans on several devices of one machine: each process searches its share of them."""

import os
from collections.abc import Callable, Iterable, Iterator

import torch

from nodule_lightning.search.precision import Precision
from nodule_lightning.search.predict import Detector, OnPrediction, Prediction, search_entry
from nodule_lightning.search.scan_source import Source
from nodule_lightning.structures import Entry, Failure

ShowProgress = Callable[[Iterable[Entry | Failure], int], Iterator[Entry | Failure]]
"""Pass on scans, of so many, and show how many have passed."""


def search_share(
    detector: Detector,
    source: Source,
    kind: str,
    workers: int,
    precision: Precision,
    compiled: bool,
    on_prediction: OnPrediction | None,
    show_progress: ShowProgress,
) -> list[Prediction | Failure]:
    """Search every n-th scan of a source, as one of n processes that torch's launcher has started.

    Args:
        detector: on the CPU; it moves to this process's device.
        source: the scans of all processes.
        kind: `cpu` or `cuda`; of several GPUs the process takes that of its rank.
        workers: processes that read and prepare scans ahead, of each process.
        precision: of the network.
        compiled: whether the network is compiled first.
        on_prediction: is called with each scan and what was found in it.
        show_progress: of the first process; it stands for all.
    """
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    moved = detector.on(device, compiled=compiled)
    scan_ids = source.scan_ids[rank::processes]
    with source.entries(workers, scan_ids) as entries:
        shown = entries if rank else show_progress(entries, len(scan_ids))
        return [search_entry(moved, entry, precision, on_prediction) for entry in shown]
