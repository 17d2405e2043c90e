"""Records of how results were made: JSON files beside a training's or a search's results."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodule_lightning.evaluation.provenance import (
    describe_code,
    describe_machine,
    describe_network,
    describe_versions,
    fingerprint_file,
)
from nodule_lightning.io.files import write_whole
from nodule_lightning.io.run_folder import PREDICTION, TRAINING

if TYPE_CHECKING:
    from nodule_lightning.search.predict import Detector


class Clock:
    """When something started and ended, and how long it took by a clock that nobody sets."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._ticks = time.monotonic()

    def read(self, *, ended: bool = False) -> dict[str, Any]:
        """Return the times as a record holds them."""
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds") if ended else None,
            "seconds": round(time.monotonic() - self._ticks, 1) if ended else None,
        }


def describe_software() -> dict[str, Any]:
    """Return versions, code and machine, which every record holds."""
    return {"versions": describe_versions(), "code": describe_code(), "machine": describe_machine()}


def read_record(path: Path) -> dict[str, Any]:
    """Read what is there of a record; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record whole, in place of an older one.

    Raises:
        InputError: it cannot be written.
    """
    write_whole(path, (json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def record_of_search(
    folder: Path, checkpoint: Path, reducer: Path | None, detector: "Detector", how: Mapping[str, Any]
) -> Callable[[int, int], None]:
    """Start the clock of a search; gives the function that writes `prediction.json` at its end.

    That function takes the number of scans that were searched and of those that failed.

    Args:
        folder: of the submission.
        checkpoint: what the detector was read from, perhaps in the folder of its training.
        reducer: checkpoint of the second stage, if there is one.
        detector: as the checkpoints have it, both stages.
        how: the options of the search, in plain values.
    """
    clock = Clock()
    rule = None if detector.reducer is None else detector.reducer.settings.combine
    # Now: a training that goes on may have written others before the search has ended.
    digests = {
        "checkpoint": {"sha256": fingerprint_file(checkpoint)},
        "reducer": None if reducer is None else {"sha256": fingerprint_file(reducer), "combine": rule},
    }

    def write(searched: int, failed: int) -> None:
        training = read_record(checkpoint.parent.parent / TRAINING).get("validation")
        record = {
            "command": "nodule-predict",
            **digests,
            "training": training if isinstance(training, dict) else None,
            "network": describe_network(detector.network),
            "scans": searched,
            "failed": failed,
            **how,
            **clock.read(ended=True),
            **describe_software(),
        }
        write_record(folder / PREDICTION, record)

    return write
