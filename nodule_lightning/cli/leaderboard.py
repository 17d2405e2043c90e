"""`nodule-leaderboard`: rank submissions, or the runs under a folder, on the same scans."""

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Group, RenderableType
from rich.text import Text

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._output import require_writable
from nodule_lightning.config.values import optional_path, paths, protocol, seed, whole_number
from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.leaderboard import Leaderboard
from nodule_lightning.evaluation.provenance import SearchRecord
from nodule_lightning.metrics.functional.ranking import Rating

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
    """Print the tables, write the files and give the best score."""
    from rich.console import Console

    from nodule_lightning.evaluation.leaderboard import rank_submissions

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
    """Give the submissions by name, the list of scans if there is one, what was left out, and how each was made."""
    from nodule_lightning.evaluation.search_folders import find_search_folders, select_comparable
    from nodule_lightning.io.files import distinct_names
    from nodule_lightning.io.tables import read_scan_ids

    submissions, scans = paths(config, "submissions"), paths(config, "scans")
    if bool(submissions) == (config.runs is not None):
        raise InputError("give either submissions=[FILE,FILE] or runs=DIR")
    if submissions:
        if twice := {path for path in submissions if submissions.count(path) > 1}:
            raise InputError(f"submissions names {min(twice)} twice")
        return dict(zip(distinct_names(submissions), submissions, strict=True)), scans, [], {}
    searches, nameless = find_search_folders(Path(config.runs))
    kept, left_out = select_comparable(searches, read_scan_ids(scans[0]) if scans else None)
    records = {run.name: run.record for run in kept if run.record is not None}
    return {run.name: run.submission for run in kept}, scans or [kept[0].scans], [*nameless, *left_out], records


def render_leaderboard(board: Leaderboard) -> RenderableType:
    """Show all submissions, the best first, then by size, then the warnings."""
    from nodule_lightning.cli._score_table import bounds, new_table, warning_lines

    number = board.standings[0].overall.nodules
    title = f"{board.protocol.label} rules, {number} nodules in {board.scans} scans"
    table = new_table(title, ("", "submission"), ("mean", "95 % interval", "p", "gained", "lost"))
    for place, standing in enumerate(board.standings, start=1):
        rating = standing.overall
        changes = ("", "") if place == 1 else (str(len(standing.gained)), str(len(standing.lost)))
        values = (f"{rating.mean:.4f}", bounds(rating.interval), _p(rating), *changes)
        table.add_row(str(place), Text(standing.name), *values)
    sizes = new_table("by size", ("nodules", "submission"), ("mean", "95 % interval", "p"))
    for place, first in enumerate(board.standings[0].ratings[1:], start=1):
        heading = f"{first.nodules} of {first.size}"
        for standing in board.standings:
            rating = standing.ratings[place]
            mean = f"{rating.mean:.4f}" if rating.nodules else "-"
            cells = (mean, bounds(rating.interval), _p(rating))
            sizes.add_row(heading, Text(standing.name), *cells, end_section=standing is board.standings[-1])
            heading = ""
    explained = Text(
        "mean: of the sensitivities at 1/8 to 8 false positives per scan. p: of the difference from the first,"
        " two-sided, paired bootstrap over scans. gained, lost: nodules that this one finds and the first does not, and"
        " the other way round, at 1 false positive per scan."
    )
    return Group(table, explained, Text(), sizes, *warning_lines(board.warnings))


def render_records(records: Mapping[str, SearchRecord | None]) -> RenderableType:
    """Show how the submissions of runs were made, in the order given; blank where nothing tells."""
    from nodule_lightning.cli._score_table import new_table

    table = new_table(
        "made by", ("submission", "network"), ("parameters", "validation FROC", "seconds a scan", "version")
    )
    for name, record in records.items():
        if record is None:
            table.add_row(Text(name), *[""] * 5)
            continue
        froc = "" if record.validation_froc is None else f"{record.validation_froc:.4f}"
        pace = f"{record.seconds / record.scans:.1f}" if record.scans else ""
        values = (f"{record.parameters / 1e6:.2f} M", froc, pace, Text(record.version))
        table.add_row(Text(name), Text(record.network), *values)
    return table


def _p(rating: Rating) -> str:
    return "" if rating.p_value is None else f"{rating.p_value:.3f}"
