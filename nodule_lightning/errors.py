"""The exceptions that a user is meant to read, and how a full disk is recognised."""

import errno
from typing import Final, Literal

ErrorKey = Literal[
    # Arguments of a command or a constructor.
    "argument-missing",  # a required one was left out
    "argument-unknown",  # no such key, group or option
    "argument-invalid",  # wrong type, out of range, not among the choices
    "argument-conflict",  # two that exclude each other, or one without effect beside another
    # Files and folders.
    "file-missing",
    "file-unreadable",  # the system refuses, or a decoder does
    "file-damaged",  # cut short, or its parts do not agree
    "file-foreign",  # another format, program or version
    "file-unsafe",  # asks to run code, or leads out of its folder
    "output-refused",  # cannot be written, or would replace what must stay
    "disk-full",
    # Scans.
    "scan-invalid",  # its voxels or their placement make no sense
    "scan-doubtful",  # its nodules could be lost or moved; reading=lenient takes it
    "scan-unknown",  # an id that is not there
    "scan-repeated",  # an id that is there twice
    # Tables (csv) and annotations.
    "table-column-missing",
    "table-value-invalid",
    "annotations-missing",  # no nodule to learn from or to score
    # Caches.
    "cache-empty",
    "cache-incomplete",
    "cache-settings-differ",
    # Runs and checkpoints.
    "run-exists",
    "run-missing",
    "run-changed",  # resumed with other settings, scans or candidates
    "checkpoint-unfit",  # of another kind or model than what is asked for
    "split-invalid",  # sets of scans that overlap, lack scans or are empty
    # The machine.
    "device-unavailable",
    "memory-exhausted",
    "package-missing",
]
"""What kind of thing is wrong; stands in brackets at the end of the line that a command prints."""


class InputError(ValueError):
    """Say in one line what is wrong with a file or a value, and how to cure it.

    Raised at the borders only (files, command line, constructors). The commands print the message without a
    traceback, followed by the key in brackets, and end with exit code 2.

    Args:
        message: names the value and the cure.
        key: the kind of error, for programs and tests: messages may be reworded, keys stay.
    """

    def __init__(self, message: str, key: ErrorKey) -> None:
        super().__init__(message)
        self.key: ErrorKey = key

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, ErrorKey], dict[str, object]]:
        # An error from another process keeps its key and its notes.
        return type(self), (str(self), self.key), self.__dict__


class IncompleteError(Exception):
    """The work was done but for some of its parts, which it has named; a command ends with exit code 1."""


# The disk, the user's quota, or the largest file that is allowed.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(error: BaseException | None) -> OSError | None:
    """Find the system's error of a full disk in the chain of an error; None where the disk is not the cause.

    Libraries wrap it in errors of their own, and may raise it again while they close what they had opened.
    """
    seen: list[BaseException] = []
    while error is not None and not any(error is other for other in seen):
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None
