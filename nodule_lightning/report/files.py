"""Write a whole file or nothing."""

import os
from pathlib import Path

from nodule_lightning.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the final place, then move there: a reader never sees half a file.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; choose another output folder") from None
    finally:
        if path.parent.is_dir():
            draft.unlink(missing_ok=True)
