"""`nodule-leaderboard`: rank submissions, or the runs under a folder, on the same scans."""

from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._output import require_writable
from nodule_lightning.config.values import optional_path, paths, protocol, seed, whole_number
from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.provenance import SearchRecord

PATH_KEYS = ("submissions", "runs", "annotations", "excluded", "scans", "output")


def main() -> None:
    """Run the command."""
    run_application(
        rank,
        "leaderboard",
        PATH_KEYS,
        optional_paths=("submissions", "runs", "excluded", "scans"),
        list_paths=("submissions",),
    )


def rank(config: DictConfig) -> float:
    """Rank the submissions, print the tables, write the files and return the best score."""
    from rich.console import Console

    from nodule_lightning.evaluation.leaderboard import rank_submissions
    from nodule_lightning.evaluation.terminal import render_leaderboard, render_records

    require_writable(Path(config.output))
    submissions, scans, remarks, records = _contenders(config)
    board = rank_submissions(
        submissions,
        Path(config.annotations),
        optional_path(config, "excluded"),
        scans,
        Path(config.output),
        protocol=protocol(config),
        bootstraps=whole_number(config, "bootstraps"),
        seed=seed(config),
        remarks=remarks,
    )
    console = Console()
    console.print(render_leaderboard(board))
    if records:
        console.print(render_records({standing.name: records.get(standing.name) for standing in board.standings}))
    return board.standings[0].overall.mean


def _contenders(config: DictConfig) -> tuple[dict[str, Path], list[Path], list[str], dict[str, SearchRecord]]:
    """Return the submissions by name, the scan list if any, remarks on what is left out, and the search records."""
    from nodule_lightning.evaluation.search_folders import find_search_folders, select_comparable
    from nodule_lightning.io.files import distinct_names
    from nodule_lightning.io.tables import read_scan_ids

    submissions, scans = paths(config, "submissions"), paths(config, "scans")
    if bool(submissions) == (config.runs is not None):
        raise InputError("give either submissions=[FILE,FILE] or runs=DIR", "argument-conflict")
    if submissions:
        if twice := {path for path in submissions if submissions.count(path) > 1}:
            raise InputError(f"submissions names {min(twice)} twice", "argument-invalid")
        return dict(zip(distinct_names(submissions), submissions, strict=True)), scans, [], {}
    searches, nameless = find_search_folders(Path(config.runs))
    kept, left_out = select_comparable(searches, read_scan_ids(scans[0]) if scans else None)
    records = {run.name: run.record for run in kept if run.record is not None}
    return {run.name: run.submission for run in kept}, scans or [kept[0].scans], [*nameless, *left_out], records
