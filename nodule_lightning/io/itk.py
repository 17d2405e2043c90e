"""What ITK and GDCM print, kept off the terminal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import BinaryIO


@contextmanager
def silent() -> Iterator[BinaryIO]:
    """Redirect what ITK and GDCM print on stderr: it comes from C++ and may quote the header.

    Yields:
        The file that receives the lines; seek to its start to read them.
    """
    terminal = os.dup(2)
    with TemporaryFile() as lines:
        os.dup2(lines.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
