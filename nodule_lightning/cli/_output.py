"""Look at the place of the output before the work starts."""

import os
from pathlib import Path

from nodule_lightning.errors import InputError


def require_writable(folder: Path) -> None:
    """Refuse a folder that could not be made or written into; nothing is made here.

    Raises:
        InputError: the folder, or the part of its path that exists, is a file or closed to the user.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be written: {existing} is a file; choose another output=")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {existing} is closed to you; choose another output=")
