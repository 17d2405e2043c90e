"""`nodule-prepare`: turn raw CT into a cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.table import Table as RichTable
from rich.text import Text

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._doubts import describe_doubts
from nodule_lightning.cli._output import require_writable
from nodule_lightning.cli._progress import progress
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.config.values import flag, whole_number, workers
from nodule_lightning.errors import IncompleteError, InputError

if TYPE_CHECKING:
    from nodule_lightning.preparation.layouts import RawDataset
    from nodule_lightning.preparation.page import ScanCheck
    from nodule_lightning.preparation.summary import Summary

PATH_KEYS = ("cache", "data.root", "data.xml", "data.annotations", "data.excluded", "data.subsets")


def main() -> None:
    """Run the command."""
    run_application(prepare, "prepare", PATH_KEYS, optional_paths=PATH_KEYS[1:], output_key="cache")


def prepare(config: DictConfig) -> None:
    """Prepare every scan of the data set, or of one shard; raise an error at the end if some scans failed."""
    from rich.console import Console

    from nodule_lightning.preparation.filling import fill_cache, shard_of
    from nodule_lightning.preparation.page import check_cache
    from nodule_lightning.preparation.readings import write_tables
    from nodule_lightning.preparation.summary import summarise

    if config.data.root is None:
        raise InputError("missing: data.root=DIR, the folder of the raw scans", "argument-missing")
    cache = Path(config.cache)
    require_writable(cache)
    settings, reading = instantiate(config.preparation), instantiate(config.reading)
    dataset = instantiate(config.data.layout)
    scan_ids = shard_of(dataset, whole_number(config, "shard"), whole_number(config, "shards", least=1))
    outcomes = fill_cache(
        dataset, cache, settings, scan_ids, workers(config), reading=reading, overwrite=flag(config, "overwrite")
    )
    summary = summarise(cache, dataset, list(progress(outcomes, "preparing", len(scan_ids))))
    Console().print(render(check_cache(cache), whole_number(config, "show")))
    for note in summary.notes:
        print(f"note: {note}")
    if dataset.readings:
        print(f"the readers' findings are in {' and '.join(map(str, write_tables(cache)))}")
    _report(cache, dataset, summary, len(scan_ids))


def _report(cache: Path, dataset: "RawDataset", summary: "Summary", scans: int) -> None:
    """Print what failed and what was doubtful, write the page, and raise an error if anything failed."""
    from nodule_lightning.preparation.page import write_preparation_page

    failed = [f"{scan_id}: {reason} ({dataset.scans[scan_id]})" for scan_id, reason in summary.failed.items()]
    for line in failed:
        print(f"failed: {line}")
    # The summary above is printed even if the page cannot be written.
    try:
        closing = f"look at {write_preparation_page(cache, summary.failed)}"
    except InputError as error:
        closing = f"its page is not up to date: {error}"
        failed.append(str(error))
    print(
        f"{len(summary.prepared)} scans prepared, {len(summary.skipped)} were there already, "
        f"{len(summary.failed)} failed; the cache is {cache}, {closing}"
    )
    if doubts := describe_doubts(summary.doubts):
        print(doubts)
    if summary.failed:
        raise IncompleteError(f"{len(summary.failed)} of {scans} scans failed; {failed[0]}")
    if failed:
        raise IncompleteError(failed[0])


def render(checks: "Sequence[ScanCheck]", most: int) -> RichTable:
    """Lay out the scans that most need a visual check, the worst first."""
    from nodule_lightning.preparation.page import HEADINGS, row

    caption = "air: right + left lung; nodules: in the crop, in the mask, of all annotated"
    if len(checks) > most:
        caption = f"the {most} of {len(checks)} scans that most need to be looked at; {caption}"
    table = RichTable(caption=caption, caption_justify="left")
    for place, heading in enumerate((*HEADINGS, "notes")):
        is_id = place == 0
        table.add_column(Text(heading), justify="left" if is_id else "right", overflow="fold", no_wrap=not is_id)
    for check in checks[:most]:
        table.add_row(*(Text(cell) for cell in (*row(check), str(len(check.notes) or ""))))
    return table
