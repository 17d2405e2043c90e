"""Tell a full disk from other errors, wherever it was met."""

import errno
from typing import Final

# The disk, what the user may have of it, or the file.
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(error: BaseException | None) -> OSError | None:
    """Give the system's error of a disk that took no more; None where that is not why.

    Whoever writes may say so in an error of its own, and then again while it closes what it had begun. An error that
    was raised once more from what it had itself caused stands in its own chain: each is asked once.
    """
    asked: list[BaseException] = []
    while error is not None and not any(error is other for other in asked):
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        asked.append(error)
        error = error.__cause__ or error.__context__
    return None
