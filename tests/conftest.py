import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    root = Path(__file__).parent.parent
    folder = root / os.environ.get("NODULE_REAL_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; NODULE_REAL_DATA names the folder of the real CT")
    return folder.resolve()
