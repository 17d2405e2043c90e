"""Training folders of a cross-validation, whose test sets together hold every scan exactly once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import CHECKPOINTS, SEARCHED, SETS, SPLITS, SUBMISSION, read_set
from nodule_lightning.io.tables import read_scan_ids


@dataclass(frozen=True, slots=True)
class TrainedFold:
    """Training of one fold.

    Attributes:
        name: path of its folder relative to the root under which it was found.
        folder: the run folder.
        checkpoint: the weights to search with.
        scan_ids: its test scans, sorted.
    """

    name: str
    folder: Path
    checkpoint: Path
    scan_ids: tuple[str, ...]

    @property
    def test_scans(self) -> Path:
        """File that lists its test scans."""
        return self.folder / SPLITS / "test.csv"

    @property
    def searched(self) -> Path:
        """Folder for the results of this checkpoint on the test scans."""
        return self.folder / f"test_{self.checkpoint.stem}"

    @property
    def submission(self) -> Path:
        """Csv file of the candidates of this checkpoint in the test scans."""
        return self.searched / SUBMISSION

    def is_searched(self) -> bool:
        """Check whether all test scans have been searched, by this or an earlier version of the checkpoint."""
        scans = self.searched / SEARCHED
        if not (self.submission.exists() and scans.exists()):
            return False
        return sorted(read_scan_ids(scans)) == list(self.scan_ids)


def find_folds(root: Path, checkpoint: str) -> list[TrainedFold]:
    """Find the trainings under a folder, sorted by name.

    Args:
        root: the folder of a sweep.
        checkpoint: which checkpoint of each training, `best` or `last`.

    Raises:
        InputError: there is no training, or one lacks the checkpoint or test scans, or has a test scan among its
            training or validation scans.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give that of a sweep of nodule-train", "file-missing")
    folds = [
        _read(path.parent.parent, root, checkpoint)
        for path in sorted(root.rglob("test.csv"))
        if path.parent.name == SPLITS
    ]
    if not folds:
        raise InputError(
            f"{root} holds no training: there is no {SPLITS}/test.csv in any folder under it", "run-missing"
        )
    return folds


def require_partition(folds: Sequence[TrainedFold], scan_ids: Sequence[str], *, partial: bool) -> None:
    """Refuse folds whose test sets are not a partition of all scans.

    Args:
        folds: the trainings.
        scan_ids: all scans, each to be tested once.
        partial: allow scans that no fold tests.

    Raises:
        InputError: a scan is in the test sets of two folds, is unknown, or is in no test set.
    """
    owner: dict[str, TrainedFold] = {}
    known = set(scan_ids)
    for fold in folds:
        for scan_id in fold.scan_ids:
            if scan_id not in known:
                raise InputError(
                    f"{fold.test_scans} names scan {scan_id}, which is not in the cache; give the cache that the run"
                    " was trained with",
                    "scan-unknown",
                )
            if scan_id in owner:
                raise InputError(
                    f"scan {scan_id} is a test scan of {owner[scan_id].name} and of {fold.name}: give the runs of one"
                    " cross-validation, one for each fold; of several seeds, one after the other",
                    "split-invalid",
                )
            owner[scan_id] = fold
    if (missing := sorted(known - set(owner))) and not partial:
        raise InputError(
            f"{len(missing)} of {len(known)} scans, such as {missing[0]}, are in no fold's test set: train the folds"
            " that are missing, or give partial=true to score those that are there",
            "split-invalid",
        )


def _read(folder: Path, root: Path, checkpoint: str) -> TrainedFold:
    train, validation, test = (read_set(folder / SPLITS / f"{name}.csv") for name in SETS)
    if not test:
        raise InputError(
            f"{folder} has no test scans; give trainings with data.fold or data.test_subsets", "split-invalid"
        )
    for name, others in (("trained on", train), ("chosen its checkpoint by", validation)):
        if common := sorted(test & others):
            raise InputError(
                f"{folder} has {name} scan {common[0]}, which it is tested on ({len(common)} such)", "split-invalid"
            )
    weights = folder / CHECKPOINTS / f"{checkpoint}.ckpt"
    if not weights.is_file():
        raise InputError(
            f"{weights} does not exist: let the training of this fold end, with resume=true", "file-missing"
        )
    return TrainedFold(folder.relative_to(root).as_posix(), folder, weights, tuple(sorted(test)))
