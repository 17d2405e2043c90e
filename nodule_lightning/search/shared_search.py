"""Share the scans of a search among the devices of a Trainer: each rank searches its own, all get all answers."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader, IterableDataset

from nodule_lightning.data.datamodule import RankStride
from nodule_lightning.search.precision import Precision
from nodule_lightning.search.predict import Detector, Look, Prediction, search_entry
from nodule_lightning.search.scan_source import Failure, Source
from nodule_lightning.structures import Entry

# A rank that has searched its scans waits for the others, of which one may have had the larger ones.
_LONGEST_WAIT = timedelta(days=1)

Watch = Callable[[Iterable[Entry | Failure], int], Iterator[Entry | Failure]]


class ScanSearch(pl.LightningModule):
    """Search a rank's scans in `trainer.predict`; `found` holds what came of them.

    Args:
        detector: what searches; its networks, of both stages, move to the rank's device.
        source: the scans of all ranks.
        workers: processes of each rank that read and prepare scans ahead.
        precision: of the network.
        look: if it is to be shown the scans; of each rank.
        watch: passes on the first rank's scans, of so many, and may show how far it is.
    """

    def __init__(
        self,
        detector: Detector,
        source: Source,
        workers: int,
        precision: Precision,
        look: Look | None = None,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        # As modules of this one they go where Lightning puts it; within the detector it would not see them.
        self.network = detector.network
        self.second_stage = None if detector.reducer is None else detector.reducer.network
        self.detector = detector
        self.source = source
        self.workers = workers
        self.precision = precision
        self.look = look
        self.watch = watch
        self.found: list[Prediction | Failure] = []

    def predict_dataloader(self) -> DataLoader[Entry | Failure]:
        """Serve the entries of this rank's scans, each once."""
        ranks = RankStride(len(self.source), self.trainer.global_rank, self.trainer.world_size)
        scan_ids = [self.source.scan_ids[place] for place in ranks]
        watch = self.watch if self.trainer.is_global_zero else None
        return DataLoader(_Ahead(self.source, self.workers, scan_ids, watch), batch_size=None)

    def transfer_batch_to_device(
        self, batch: Entry | Failure, device: torch.device, dataloader_idx: int
    ) -> Entry | Failure:
        """Leave the scan where it is: the search moves to the device what it needs."""
        return batch

    def predict_step(self, entry: Entry | Failure, batch_idx: int) -> Prediction | Failure:
        """Search one scan."""
        outcome = search_entry(self.detector, entry, self.precision, self.look)
        self.found.append(outcome)
        return outcome


class _Ahead(IterableDataset[Entry | Failure]):
    def __init__(self, source: Source, workers: int, scan_ids: Sequence[str], watch: Watch | None) -> None:
        self.source = source
        self.workers = workers
        self.scan_ids = scan_ids
        self.watch = watch

    def __iter__(self) -> Iterator[Entry | Failure]:
        with self.source.entries(self.workers, self.scan_ids) as entries:
            yield from entries if self.watch is None else self.watch(entries, len(self.scan_ids))


def search_trainer(device: torch.device, devices: int) -> pl.Trainer:
    """Make a Trainer that only predicts, silently, with several devices of one kind."""
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices,
        strategy=DDPStrategy(timeout=_LONGEST_WAIT),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def share(search: ScanSearch, trainer: pl.Trainer) -> list[Prediction | Failure]:
    """Search with all devices of a Trainer; give every rank the outcomes of all scans, in the source's order.

    A scan that two ranks have searched, because there are fewer scans than ranks, counts once.
    """
    with warnings.catch_warnings():
        # Those that read ahead are the source's own, of which Lightning does not know.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        trainer.predict(search, return_predictions=False)
    parts: list[Any] = [search.found] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(parts, search.found)
    outcomes = {outcome.scan_id: outcome for part in reversed(parts) for outcome in part}
    return [outcomes[scan_id] for scan_id in search.source.scan_ids]
