"""`nodule-predict`: find nodules with a trained detector."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.table import Table as RichTable
from rich.text import Text

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._doubts import describe_doubts
from nodule_lightning.cli._errors import one_line
from nodule_lightning.cli._output import require_writable
from nodule_lightning.cli._progress import progress
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.config.values import names, optional_path, whole_number
from nodule_lightning.errors import IncompleteError, InputError
from nodule_lightning.io.settings import STRICT, ReadingSettings

if TYPE_CHECKING:
    from nodule_lightning.cli._search_options import SearchOptions
    from nodule_lightning.search.predict import Detector, OnPrediction, Prediction, Reducer
    from nodule_lightning.search.scan_source import Source
    from nodule_lightning.structures import Entry, Failure

PATH_KEYS = ("checkpoint", "reducer", "input", "output", "scans")


def main() -> None:
    """Run the command."""
    run_application(search, "predict", PATH_KEYS, optional_paths=("reducer", "scans"))


def search(config: DictConfig) -> None:
    """Search every scan, write the submission and print the candidates; raise an error if some scans failed."""
    from nodule_lightning.cli._search_options import search_options

    search_scans(
        Search(
            checkpoint=Path(config.checkpoint),
            input=Path(config.input),
            output=Path(config.output),
            scans=optional_path(config, "scans"),
            options=search_options(config),
            reducer=optional_path(config, "reducer"),
            combine=config.combine,
            formats=tuple(names(config, "formats")),
            show=whole_number(config, "show"),
            reading=instantiate(config.reading),
        )
    )


@dataclass(frozen=True, slots=True)
class Search:
    """The input, models, options and output of a search.

    Attributes:
        checkpoint: checkpoint of the detector.
        input: a scan, a folder of scans, or a cache.
        output: folder for the results.
        scans: csv with the ids of the scans to search; None for all.
        options: how the scans are searched.
        reducer: checkpoint of a second stage.
        combine: rule that combines both probabilities; None takes the rule that the second stage was validated with.
        formats: further output formats, beside the submission.
        show: number of candidates to print per scan.
        reading: what to do where the files of raw scans leave doubt.
    """

    checkpoint: Path
    input: Path
    output: Path
    scans: Path | None
    options: "SearchOptions"
    reducer: Path | None = None
    combine: str | None = None
    formats: Sequence[object] = ()
    show: int = 0
    reading: ReadingSettings = STRICT


def search_scans(wanted: Search) -> None:
    """Search the scans, write the results and print the candidates.

    Raises:
        InputError: an input cannot be read, the output cannot be written, or every scan failed.
        IncompleteError: some scans failed; their ids are printed.
    """
    from rich.console import Console

    from nodule_lightning.evaluation.record import record_of_search
    from nodule_lightning.search.outputs import (
        Format,
        describe_leftovers,
        find_outputs,
        parse_formats,
        write_outputs,
        write_picture,
    )
    from nodule_lightning.search.predict import Prediction
    from nodule_lightning.search.scan_source import Source
    from nodule_lightning.structures import Failure
    from nodule_lightning.training.checkpoint import load_detector

    output, options = wanted.output, wanted.options
    formats = parse_formats(wanted.formats)
    require_writable(output)
    detector = load_detector(wanted.checkpoint)
    reducer = _reducer(wanted, detector)
    detector = replace(detector, inference=options.inference(detector.inference), reducer=reducer)
    how = {**options.to_dict(), "reading": wanted.reading.to_dict()}
    write_record = record_of_search(output, wanted.checkpoint, wanted.reducer, detector, how)
    source = Source(wanted.input, detector.preparation, wanted.scans, wanted.reading)
    before = find_outputs(output)
    on_prediction = partial(write_picture, output) if Format.PICTURES in formats else None
    outcomes = _outcomes(detector, source, options, on_prediction)
    predictions = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if predictions:
        path = write_outputs(output, predictions, formats)
        write_record(len(predictions), len(failures))
        console = Console()
        for prediction in predictions:
            if wanted.show:
                console.print(render(prediction, wanted.show))
            for note in prediction.notes:
                console.print(Text(f"note: {prediction.scan_id}: {one_line(note)}"), soft_wrap=True)
        console.print(f"{sum(len(item.candidates) for item in predictions)} candidates are in", Text(str(path)))
        if earlier := describe_leftovers(output, before):
            console.print(Text(f"note: {earlier}"), soft_wrap=True)
        if doubts := describe_doubts({prediction.scan_id: prediction.doubts for prediction in predictions}):
            console.print(Text(doubts), soft_wrap=True)
    _require_all(failures, len(source))


def render(prediction: "Prediction", most: int) -> RichTable:
    """Lay out the most probable candidates of a scan: slice, probability, position in the slice, diameter."""
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
    detector: "Detector", source: "Source", options: "SearchOptions", on_prediction: "OnPrediction | None"
) -> "list[Prediction | Failure]":
    """Search all scans, in as many processes as there are devices."""
    from nodule_lightning.search.predict import predict

    workers = options.processes(raw=bool(source.raw))
    if options.devices == 1:
        moved = detector.on(options.device, compiled=options.compiled)
        found = predict(moved, source, workers, options.precision, on_prediction)
        return list(progress(found, "searching", len(source)))
    from nodule_lightning.search.shared_search import search_share
    from nodule_lightning.training.launch import launch

    arguments = (options.device.type, workers, options.precision, options.compiled, on_prediction, show_progress)
    shares = launch(search_share, options.devices, detector, source, *arguments)
    outcomes = {outcome.scan_id: outcome for share in shares for outcome in share}
    return [outcomes[scan_id] for scan_id in source.scan_ids]


def show_progress(entries: "Iterable[Entry | Failure]", total: int) -> "Iterator[Entry | Failure]":
    """Show the progress of the first of several processes."""
    return progress(entries, "searching, of the first process", total)


def _reducer(wanted: Search, detector: "Detector") -> "Reducer | None":
    from nodule_lightning.training.checkpoint import load_reducer

    if wanted.reducer is None:
        if wanted.combine is not None:
            raise InputError(
                f"combine={wanted.combine} has no effect without a second stage; give reducer=FILE", "argument-conflict"
            )
        return None
    return load_reducer(wanted.reducer, detector, wanted.combine)


def _require_all(failures: Sequence["Failure"], scans: int) -> None:
    if not failures:
        return
    first = failures[0]
    if scans == 1:
        raise InputError(first.reason, first.key)
    for failure in failures:
        print(f"failed: {failure.scan_id}: {one_line(failure.reason)}")
    message = f"{len(failures)} of {scans} scans failed and have no candidates; {first.scan_id}: {first.reason}"
    raise InputError(message, first.key) if len(failures) == scans else IncompleteError(message)
