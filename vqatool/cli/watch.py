"""`vqatool watch`: score videos as they arrive in folders."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    FileType,
    SourceType,
    device_option,
    display_option,
    jobs_option,
    model_option,
    name_failures,
    name_filter_options,
    predictor_for,
    segment_option,
    tonemap_option,
)
from vqatool.cli.score import ScoreOutput, again_text, write_page

if TYPE_CHECKING:  # for annotations alone
    from vqatool.scoring.report_file import Resumed
    from vqatool.scoring.segments import Display


@click.command()
@click.argument("folders", nargs=-1, required=True, type=SourceType())
@click.option("-o", "--out", type=FileType(),
              default=Path("report.csv"), show_default=True,
              help="Report to write: .csv, .json, .jsonl or .parquet; .html: a page, made anew "
              "each time, with the rows in .csv files beside it.")  # fmt: skip
@name_filter_options
@click.option("--settle", "settle_s", type=click.FloatRange(0), default=5.0, show_default=True,
              help="Seconds that size and time of a file stay the same before it counts as "
              "complete.")  # fmt: skip
@click.option("--interval", "interval_s", type=click.FloatRange(0.1), default=5.0,
              show_default=True, help="Seconds between two looks.")  # fmt: skip
@click.option("--once", is_flag=True, help="Score what is complete now, and end.")
@model_option
@display_option
@tonemap_option("Score HDR videos (PQ, HLG) as SDR; else they get no score.")
@segment_option
@jobs_option
@device_option
def watch(
    folders: tuple[Path, ...],
    out: Path,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    settle_s: float,
    interval_s: float,
    once: bool,
    model: Path | None,
    display: "Display",
    tonemap: bool,
    segment_s: float,
    jobs: int | None,
    device: str,
) -> None:
    """Score videos as they arrive in FOLDERS, until it is stopped.

    A file is scored once it is complete: its size and time stay the same for a while. The report
    keeps the rows of files that are gone. A restart scores only what the report lacks. SIGTERM and
    Ctrl-C end it after the files that are being scored are written. FOLDERS may be URLs of buckets
    and prefixes, and the report a URL.

    \b
    Example:
        vqatool watch incoming/ -o report.csv --display 1280x720
        vqatool watch incoming/ -o report.html
        vqatool watch incoming/ -o report.csv --once      # from cron
        vqatool watch s3://bucket/in/ -o s3://bucket/report.csv --interval 60
    """
    from vqatool.inputs.decode_pool import start_server
    from vqatool.memory import return_freed_memory

    output = ScoreOutput.chosen(out, None, is_json=False)
    output.require_writable()
    return_freed_memory()
    start_server()  # the server loads what workers need while this process loads the model
    predictor = predictor_for(model, device)

    from ladder.media.discover import FileFilter
    from vqatool.scoring.gates import Gate
    from vqatool.scoring.segments import ScoreConfig
    from vqatool.scoring.watch import Arrivals
    from vqatool.scoring.watch import watch as watch_folders
    from vqatool.terminal import print_note

    def tell_again(resumed: "Resumed") -> None:
        if again := again_text(resumed):
            print_note(f"{output.report}: {again}")

    def make_page() -> None:
        if output.page:
            print_note(write_page(output, Gate(), jobs))

    assert output.report
    arrivals = Arrivals(folders, FileFilter(include, exclude), settle_s)
    print_note(f"watching {', '.join(map(str, folders))}; rows go to {out}")
    with _stopped_by_signals() as stop:
        for row in watch_folders(
            arrivals,
            output.report,
            predictor,
            ScoreConfig(display, segment_s, jobs, tonemap=tonemap),
            interval_s=interval_s,
            stop=stop,
            is_once=once,
            per_segment=output.per_segment,
            on_start=tell_again,
            on_change=make_page,
        ):
            if not name_failures([row]):
                print_note(f"{row.path}: {row.score:.1f}, {row.verdict}")
    print_note(f"stopped; {out} has a row for each file that was complete")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; a second Ctrl-C interrupts."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {each: signal.signal(each, on_signal) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
