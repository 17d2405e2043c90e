import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def real_data() -> Path:
    root = Path(__file__).parent.parent
    folder = root / os.environ.get("NODULE_REAL_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; NODULE_REAL_DATA names the folder of the real CT")
    return folder.resolve()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute in one thread: networks this small gain nothing from more, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
