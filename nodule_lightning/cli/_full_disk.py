"""Tell a full disk from other errors, wherever it was met."""

import errno
from typing import Final

# The disk, what the user may have of it, or the file.
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(error: BaseException | None) -> str | None:
    """Give what the system said of a disk that took no more; None where that is not why.

    Whoever writes may say so in an error of its own, and then again while it closes what it had begun.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error.strerror
        error = error.__cause__ or error.__context__
    return None
