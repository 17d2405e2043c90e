"""The names of the files in the folder of a training (`nodule-train`) and in that of a search (`nodule-predict`)."""

from pathlib import Path
from typing import Final

from nodule_lightning.io.tables import read_scan_ids

# A search: its candidates, the scans that it searched, and how both were made.
SUBMISSION: Final = "submission.csv"
SEARCHED: Final = "scans.csv"
PREDICTION: Final = "prediction.json"

# A training: how it was made, its checkpoints, and a list of scans for each of its three sets.
TRAINING: Final = "run.json"
CHECKPOINTS: Final = "checkpoints"
LAST: Final = Path(CHECKPOINTS, "last.ckpt")
SPLITS: Final = "splits"
SETS: Final = ("train", "validation", "test")
# Pictures of its training data: the sizes drawn, and patches before and after augmentation.
SAMPLING: Final = "sampling"
AUGMENTATION: Final = "augmentation"


def read_set(path: Path) -> set[str]:
    """Read one of a training's sets of scans, which may be empty: a list of scans in general may not.

    Raises:
        InputError: as `read_scan_ids`.
    """
    empty = path.exists() and path.read_text(encoding="utf-8-sig").split() in ([], ["seriesuid"])
    return set() if empty else set(read_scan_ids(path))
