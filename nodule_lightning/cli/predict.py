"""`nodule-predict`: find nodules with a trained detector."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.table import Table as RichTable
from rich.text import Text

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._errors import one_line
from nodule_lightning.cli._output import require_writable
from nodule_lightning.cli._progress import progress
from nodule_lightning.config.values import names, optional_path, whole_number
from nodule_lightning.errors import IncompleteError, InputError

if TYPE_CHECKING:
    from nodule_lightning.cli._search_options import SearchOptions
    from nodule_lightning.search.predict import Detector, Look, Prediction, Reducer
    from nodule_lightning.search.scan_source import Failure, Source
    from nodule_lightning.structures import Entry

PATH_KEYS = ("checkpoint", "reducer", "input", "output", "scans")


def main() -> None:
    """Run the command."""
    run_application(search, "predict", PATH_KEYS, optional_paths=("reducer", "scans"))


def search(config: DictConfig) -> None:
    """Search every scan, write the submission, print the candidates; an error at the end says if some scans failed."""
    from rich.console import Console

    from nodule_lightning.cli._search_options import search_options
    from nodule_lightning.search.outputs import (
        Format,
        find_outputs,
        parse_formats,
        tell_earlier,
        write_outputs,
        write_picture,
    )
    from nodule_lightning.search.predict import Prediction, readied
    from nodule_lightning.search.scan_source import Failure, Source
    from nodule_lightning.training.checkpoint import load_detector
    from nodule_lightning.training.record import record_of_search

    show, output = whole_number(config, "show"), Path(config.output)
    formats = parse_formats(names(config, "formats"))
    require_writable(output)
    options = search_options(config)
    detector = load_detector(Path(config.checkpoint))
    detector = replace(detector, inference=options.inference(detector.inference), reducer=_reducer(config, detector))
    reducer = optional_path(config, "reducer")
    write_record = record_of_search(output, Path(config.checkpoint), reducer, detector, options.to_dict())
    source = Source(Path(config.input), detector.preparation, optional_path(config, "scans"))
    detector = readied(detector, options.device, compiled=options.compiled)
    before = find_outputs(output)
    look = partial(write_picture, output) if Format.PICTURES in formats else None
    outcomes = _outcomes(detector, source, options, look)
    if outcomes is None:
        return
    predictions = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if predictions:
        path = write_outputs(output, predictions, formats)
        write_record(len(predictions), len(failures))
        console = Console()
        for prediction in predictions:
            if show:
                console.print(render(prediction, show))
            for note in prediction.notes:
                console.print(Text(f"note: {prediction.scan_id}: {one_line(note)}"), soft_wrap=True)
        console.print(f"{sum(len(item.candidates) for item in predictions)} candidates are in", Text(str(path)))
        if earlier := tell_earlier(output, before):
            console.print(Text(f"note: {earlier}"), soft_wrap=True)
    _require_all(failures, len(source))


def render(prediction: "Prediction", most: int) -> RichTable:
    """Lay out the best candidates of a scan as the seed team did: slice, probability, place in the slice."""
    candidates = prediction.candidates
    caption = f"{len(candidates)} candidates" + (f", the best {most} shown" if len(candidates) > most else "")
    table = RichTable(title=Text(prediction.scan_id), title_justify="left", caption=caption, caption_justify="left")
    for heading in ("rank", "slice", "probability", "[x, y]", "diameter mm"):
        table.add_column(Text(heading), justify="right")
    rows = zip(prediction.voxels_zyx().tolist(), candidates.probability, candidates.diameter_mm, strict=True)
    for rank, ((z, y, x), probability, diameter_mm) in enumerate(list(rows)[:most], start=1):
        table.add_row(str(rank), str(z + 1), f"{probability:.3f}", Text(f"[{x}, {y}]"), f"{diameter_mm:.1f}")
    return table


def _outcomes(
    detector: "Detector", source: "Source", options: "SearchOptions", look: "Look | None"
) -> "list[Prediction | Failure] | None":
    """Search all scans; give None in a process that only helps the one that writes."""
    from nodule_lightning.search.predict import predict

    workers = options.processes(raw=bool(source.raw))
    if options.devices == 1:
        found = predict(detector, source, workers, options.precision, look)
        return list(progress(found, "searching", len(source)))
    from nodule_lightning.search.shared_search import ScanSearch, search_trainer, share
    from nodule_lightning.training.launch import child_processes_of_this_job, follow_the_first_process
    from nodule_lightning.training.quiet import silence_tips

    follow_the_first_process()
    silence_tips()
    search = ScanSearch(detector, source, workers, options.precision, look, watch)
    trainer = search_trainer(options.device, options.devices)
    with child_processes_of_this_job(trainer):
        outcomes = share(search, trainer)
    return outcomes if trainer.is_global_zero else None


def watch(entries: "Iterable[Entry | Failure]", total: int) -> "Iterator[Entry | Failure]":
    """Show how far the first of several processes is."""
    return progress(entries, "searching, of the first process", total)


def _reducer(config: DictConfig, detector: "Detector") -> "Reducer | None":
    from nodule_lightning.training.checkpoint import load_reducer

    if config.reducer is None:
        if config.combine is not None:
            raise InputError(f"combine={config.combine} has no effect without a second stage; give reducer=FILE")
        return None
    return load_reducer(Path(config.reducer), detector, config.combine)


def _require_all(failures: Sequence["Failure"], scans: int) -> None:
    if not failures:
        return
    first = failures[0]
    if scans == 1:
        raise InputError(first.reason)
    for failure in failures:
        print(f"failed: {failure.scan_id}: {one_line(failure.reason)}")
    message = f"{len(failures)} of {scans} scans failed and have no candidates; {first.scan_id}: {first.reason}"
    raise InputError(message) if len(failures) == scans else IncompleteError(message)
