"""Settings of the readers of raw scans."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from nodule_lightning.errors import InputError

_MOST_OFFSET_HU = 10_000


@dataclass(frozen=True, slots=True)
class ReadingSettings:
    """How raw scans are read where a file leaves doubt.

    Attributes:
        lenient: read a scan whose nodules could be lost or moved by its faults, with a note; otherwise it fails.
        offset_hu: added to the stored values to give Hounsfield units, for files that hold counts; None trusts the
            file, and corrects an offset of 1024 that is plain from the values.

    Raises:
        InputError: the offset is beyond ten thousand.
    """

    lenient: bool = False
    offset_hu: int | None = None

    def __post_init__(self) -> None:
        if self.offset_hu is not None and abs(self.offset_hu) > _MOST_OFFSET_HU:
            raise InputError(
                f"reading.offset_hu must be within {_MOST_OFFSET_HU} of 0, not {self.offset_hu}", "argument-invalid"
            )

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Return how a scan was read, from the record of its preparation; records of earlier versions do not say it."""
        return cls(**record.get("reading", {}))

    def doubt(self, path: object, fault: str, detail: str = "") -> str:
        """Return a fault as a note if reading is lenient.

        Args:
            path: the scan.
            fault: what is wrong, by which a nodule could be lost or moved.
            detail: what only the error says, such as the name of a file, which may be a patient's.

        Raises:
            InputError: reading is strict.
        """
        if self.lenient:
            return fault
        raise InputError(f"{path}: {fault}{detail}; reading=lenient reads it all the same", "scan-doubtful")


STRICT: Final = ReadingSettings()
