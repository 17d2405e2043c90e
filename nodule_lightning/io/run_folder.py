"""File names in the output folders of `nodule-train` and `nodule-predict`."""

from pathlib import Path
from typing import Final

from nodule_lightning.io.tables import read_scan_ids

# nodule-predict: the candidates, the searched scans, and how both were made.
SUBMISSION: Final = "submission.csv"
SEARCHED: Final = "scans.csv"
PREDICTION: Final = "prediction.json"

# nodule-train: the record of the run, its checkpoints, and one list of scans per set.
TRAINING: Final = "run.json"
CHECKPOINTS: Final = "checkpoints"
LAST: Final = Path(CHECKPOINTS, "last.ckpt")
SPLITS: Final = "splits"
# The name of a rehearsal's temporary folder begins so.
REHEARSAL: Final = "rehearsal-"
SETS: Final = ("train", "validation", "test")
# Pictures of its training data: the sizes drawn, and patches before and after augmentation.
SAMPLING: Final = "sampling"
AUGMENTATION: Final = "augmentation"


def read_set(path: Path) -> set[str]:
    """Read one set of a training run. Unlike the list in `read_scan_ids`, it may be empty.

    Raises:
        InputError: as `read_scan_ids`.
    """
    empty = path.exists() and path.read_text(encoding="utf-8-sig").split() in ([], ["seriesuid"])
    return set() if empty else set(read_scan_ids(path))
