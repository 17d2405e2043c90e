"""Train and compare the arms of the named questions, or of all; finished runs are not repeated.

    python -m experiments.ablations outputs/ablations [QUESTION ...]

Each command is printed before it runs. A sweep that was killed continues where it stopped.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from experiments.ablations.questions import QUESTIONS, SEEDS, arms
from experiments.ablations.score import score_arms, table

# An adult's chest at two thirds of its size, its nodules in full size and in greater number.
PHANTOM = (
    "phantom=realistic",
    "phantom.matrix=256",
    "phantom.pixel_mm=[0.8,0.95]",
    "phantom.slice_mm=[0.8,2.0]",
    "phantom.body_scale=[0.6,0.66]",
    "phantom.largest_diameter_mm=25",
    "phantom.nodule_counts=[2,1,1,2,2,2,2,1,1]",
)


def step(command: str, *arguments: str) -> None:
    """Print a command and run it."""
    print("\n$", shlex.join([command, *arguments]), flush=True)
    subprocess.run([Path(sys.executable).with_name(command), *arguments], check=True)


def prepare(output: Path) -> None:
    """Write and prepare the phantoms."""
    step("nodule-phantom", f"output={output / 'phantom'}", "scans=240", "seed=0", *PHANTOM)
    step("nodule-prepare", "data=luna16", f"data.root={output / 'phantom'}", f"cache={output / 'cache'}")


def ask(output: Path, override: str) -> None:
    """Train every arm with every seed, search the test scans, print the table."""
    cache, seeds = output / "cache", ",".join(map(str, SEEDS))
    train = (f"cache={cache}", f"paths.sweep={output / 'runs'}", "resume=true", override, f"seed={seeds}")
    step("nodule-train", "-m", "experiment=ablation", *train)
    runs = {
        arm: [output / "runs" / folder / f"seed={seed}" for seed in SEEDS] for arm, folder in arms(override).items()
    }
    for run in (run for of_arm in runs.values() for run in of_arm):
        search(run, cache)
    for line in table(score_arms(runs, output / "phantom")):
        print(line)


def search(run: Path, cache: Path) -> None:
    """Search the test scans with the last checkpoint, if it is newer than the submission."""
    checkpoint, found = run / "checkpoints" / "last.ckpt", run / "test" / "submission.csv"
    if found.exists() and found.stat().st_mtime > checkpoint.stat().st_mtime:
        return
    scans = f"scans={run / 'splits' / 'test.csv'}"
    step("nodule-predict", f"checkpoint={checkpoint}", f"input={cache}", scans, f"output={found.parent}", "show=0")


def main() -> None:
    """Prepare the phantoms if needed, and answer each question."""
    if len(sys.argv) < 2 or set(sys.argv[2:]) - set(QUESTIONS):
        sys.exit(f"usage: python -m experiments.ablations OUTPUT [{'] ['.join(QUESTIONS)}]")
    output, asked = Path(sys.argv[1]), sys.argv[2:] or list(QUESTIONS)
    if not (output / "cache" / "preparation.html").exists():
        prepare(output)
    for question in asked:
        ask(output, QUESTIONS[question])


if __name__ == "__main__":
    main()
