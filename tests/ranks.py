"""Run a script of the tests in two processes that meet through gloo."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def printed_by_two_ranks(script: Path, meeting: Path) -> list[str]:
    """Run `SCRIPT RANK 2 MEETING` for both ranks; give what each of them printed."""
    command = [sys.executable, "-W", "ignore", str(script)]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), "2", str(meeting)], stdout=subprocess.PIPE, encoding="utf-8", env=ENVIRONMENT
        )
        for rank in (0, 1)
    ]
    try:
        printed = [rank.communicate(timeout=90)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0]
    return printed
