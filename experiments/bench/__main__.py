"""Time the slow stages of the pipeline; print one table and write bench.json.

Each stage runs in its own process, so that peak memories are independent.

    python -m experiments.bench [OUTPUT]
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.bench.figures import Figure

STRETCHES = ("golden", "million", "phantoms", "reading", "preparation", "training", "search")
ON_REAL_DATA = ("golden", "reading", "preparation", "search")
ROOT = Path(__file__).parents[2]


def measure(stretch: str, folder: Path) -> list[Figure]:
    """Run one stage in this process; without its data the figure says that it was left out."""
    if stretch in ON_REAL_DATA:
        real_data = ROOT / os.environ.get("NODULE_REAL_DATA", "../shared/data")
        if not real_data.is_dir():
            return [Figure(stretch, 0.0, 0.0, "", 0, f"left out: {real_data} is absent; see NODULE_REAL_DATA")]
        return _measure_on_real_data(stretch, real_data, folder)
    if stretch == "million":
        from experiments.bench.score import million

        return million(folder)
    if stretch == "phantoms":
        from experiments.bench.phantoms import phantoms

        return phantoms(folder)
    from experiments.bench.training import phantom_cache, training

    return training(phantom_cache(folder))


def _measure_on_real_data(stretch: str, real_data: Path, folder: Path) -> list[Figure]:
    if stretch == "golden":
        from experiments.bench.score import golden

        return golden(real_data, folder)
    if stretch == "reading":
        from experiments.bench.reading import reading

        return reading(real_data, folder)
    if stretch == "preparation":
        from experiments.bench.preparation import preparation

        return preparation(real_data, folder)
    from experiments.bench.search import search

    return search(real_data, folder)


def measured_apart(stretch: str) -> list[Figure]:
    """Run one stage in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.bench", "--stretch", stretch, folder]
        subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
        values = json.loads((Path(folder) / "figures.json").read_text(encoding="utf-8"))
    return [Figure(**value) for value in values]


def rendered(figures: list[Figure]) -> Table:
    """Format the figures as a table for the terminal."""
    table = Table(title=f"bench, {os.cpu_count()} cores", title_justify="left")
    for name in ("what", "least", "median", "unit", "repeats", "note"):
        table.add_column(name, justify="right" if name in ("least", "median", "repeats") else "left")
    for item in figures:
        numbers = [f"{item.least:.4g}", f"{item.middle:.4g}"] if item.repeats else ["", ""]
        table.add_row(item.what, *numbers, item.unit, str(item.repeats), item.note)
    return table


def write(path: Path, figures: list[Figure]) -> None:
    """Write the figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(item) for item in figures], indent=1), encoding="utf-8")


def main() -> None:
    """Measure every stage, or only the named one."""
    if sys.argv[1:2] == ["--stretch"]:
        write(Path(sys.argv[3]) / "figures.json", measure(sys.argv[2], Path(sys.argv[3])))
        return
    output = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "outputs" / "bench"
    figures = [item for stretch in STRETCHES for item in measured_apart(stretch)]
    write(output / "bench.json", figures)
    Console(width=None if sys.stdout.isatty() else 120).print(rendered(figures))
    print(f"written to {output / 'bench.json'}")


if __name__ == "__main__":
    main()
