"""Run a script of the tests in several processes that meet through gloo."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def printed_by_ranks(script: Path, meeting: Path, number: int = 2) -> list[str]:
    """Run `SCRIPT RANK NUMBER MEETING` for each rank; give what each of them printed."""
    command = [sys.executable, "-W", "ignore", str(script)]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(number), str(meeting)],
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=ENVIRONMENT,
        )
        for rank in range(number)
    ]
    try:
        printed = [rank.communicate(timeout=90)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * number
    return printed


def finished(command: Sequence[str], folder: Path | None = None, timeout_s: float = 240) -> str:
    """Run a command that starts its ranks itself; give what they printed, once all of them are gone."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=folder,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(timeout=timeout_s)
    finally:
        # All of them: one that waits for another heeds no politer signal.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, printed + said
    return printed
