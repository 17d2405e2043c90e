"""The trainings of a cross-validation: each has kept scans back, and together these are all scans, each once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import CHECKPOINTS, SEARCHED, SETS, SPLITS, SUBMISSION, read_set
from nodule_lightning.io.tables import read_scan_ids


@dataclass(frozen=True, slots=True)
class TrainedFold:
    """One training.

    Attributes:
        name: its folder, seen from where the search began.
        folder: that folder.
        checkpoint: the weights to search with.
        scan_ids: its test scans, sorted.
    """

    name: str
    folder: Path
    checkpoint: Path
    scan_ids: tuple[str, ...]

    @property
    def test_scans(self) -> Path:
        """Give the list of its test scans."""
        return self.folder / SPLITS / "test.csv"

    @property
    def searched(self) -> Path:
        """Give the folder for what this checkpoint finds in them."""
        return self.folder / f"test_{self.checkpoint.stem}"

    @property
    def submission(self) -> Path:
        """Give the file of what this checkpoint finds in them."""
        return self.searched / SUBMISSION

    def is_searched(self) -> bool:
        """Tell whether all test scans have been searched, whatever the checkpoint was then."""
        scans = self.searched / SEARCHED
        if not (self.submission.exists() and scans.exists()):
            return False
        return sorted(read_scan_ids(scans)) == list(self.scan_ids)


def find_folds(root: Path, checkpoint: str) -> list[TrainedFold]:
    """Find the trainings under a folder, in the order of their names.

    Args:
        root: the folder of a sweep.
        checkpoint: which one of each, `best` or `last`.

    Raises:
        InputError: there is none, one has no such checkpoint yet or no test scans, or it has trained or chosen its
            checkpoint on a test scan.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give that of a sweep of nodule-train")
    folds = [
        _read(path.parent.parent, root, checkpoint)
        for path in sorted(root.rglob("test.csv"))
        if path.parent.name == SPLITS
    ]
    if not folds:
        raise InputError(f"{root} holds no training: there is no {SPLITS}/test.csv in any folder under it")
    return folds


def require_partition(folds: Sequence[TrainedFold], scan_ids: Sequence[str], *, partial: bool) -> None:
    """Refuse folds that do not part all scans among them.

    Args:
        folds: the trainings.
        scan_ids: all scans that are to be tested once.
        partial: some may be tested by no fold.

    Raises:
        InputError: a scan in the test sets of two folds, one that is not among all scans, or one that is in none.
    """
    owner: dict[str, TrainedFold] = {}
    known = set(scan_ids)
    for fold in folds:
        for scan_id in fold.scan_ids:
            if scan_id not in known:
                raise InputError(
                    f"{fold.test_scans} names scan {scan_id}, which is not in the cache; give the run's own"
                )
            if scan_id in owner:
                raise InputError(
                    f"scan {scan_id} is a test scan of {owner[scan_id].name} and of {fold.name}: give the runs of one"
                    " cross-validation, one for each fold; of several seeds, one after the other"
                )
            owner[scan_id] = fold
    if (missing := sorted(known - set(owner))) and not partial:
        raise InputError(
            f"{len(missing)} of {len(known)} scans, such as {missing[0]}, are in no fold's test set: train the folds"
            " that are missing, or give partial=true to score those that are there"
        )


def _read(folder: Path, root: Path, checkpoint: str) -> TrainedFold:
    train, validation, test = (read_set(folder / SPLITS / f"{name}.csv") for name in SETS)
    if not test:
        raise InputError(f"{folder} has no test scans; give trainings with data.fold or data.test_subsets")
    for name, others in (("trained on", train), ("chosen its checkpoint by", validation)):
        if common := sorted(test & others):
            raise InputError(f"{folder} has {name} scan {common[0]}, which it is tested on ({len(common)} such)")
    weights = folder / CHECKPOINTS / f"{checkpoint}.ckpt"
    if not weights.is_file():
        raise InputError(f"{weights} does not exist: let the training of this fold end, with resume=true")
    return TrainedFold(folder.relative_to(root).as_posix(), folder, weights, tuple(sorted(test)))
