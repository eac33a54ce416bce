"""`vqatool compare`: two reports of the same videos, before and after a change."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    STDOUT,
    FileType,
    HereType,
    jobs_option,
    or_told,
    stdout_writer,
)
from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone
    from vqatool.reporting.comparison import Comparison, ComparisonRow, DropGate
    from vqatool.reporting.comparison_page import ComparisonContent
    from vqatool.scoring.rows import ReportRow

_FILE = FileType(exists=True)


@click.command()
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option("--by", type=click.Choice(["path", "below", "name", "stem"]), default="path",
              show_default=True,
              help="What the two rows of a video have in common: the path, the path below the "
              "folder of all files, the name, or the name without suffix.")  # fmt: skip
@click.option("-o", "--out", type=HereType(dir_okay=False, allow_dash=True, path_type=Path),
              help="File for all differences: .csv, .json, .jsonl or .parquet; .html: a "
              "page; -: CSV on stdout.")  # fmt: skip
@click.option("--per-segment", nargs=2, type=_FILE, metavar="BEFORE AFTER",
              help="Files of `score --per-segment`, for the timelines of the page.")  # fmt: skip
@click.option("--json", "is_json", is_flag=True,
              help="Print each video on stdout as a line of JSON.")  # fmt: skip
@click.option("--fail-on-drop", "max_drop", type=click.FloatRange(0, min_open=True),
              metavar="POINTS",
              help="Exit with code 3 if a score fell by so many points, or was lost.")  # fmt: skip
@click.option("--fail-on-missing", "fails_on_missing", is_flag=True,
              help="Exit with code 3 if a video is not in AFTER.")  # fmt: skip
@click.option("--thumbnails/--no-thumbnails", default=True, show_default=True,
              help="Show pictures of what got worse on the page.")  # fmt: skip
@jobs_option
def compare(
    before: Path,
    after: Path,
    by: str,
    out: Path | None,
    per_segment: tuple[Path, Path] | None,
    is_json: bool,
    max_drop: float | None,
    fails_on_missing: bool,
    thumbnails: bool,
    jobs: int | None,
) -> None:
    """Compare two reports of `score`, the largest drops first.

    A difference is the score AFTER less the score BEFORE. Scores of single videos may be off by
    several points, but those of two encodes of one source are off alike, so differences are safer
    than scores. The videos are read for the pictures of the page alone, as far as they are there
    and as they were scored.

    \b
    Example:
        vqatool compare old.csv new.csv --by stem --fail-on-drop 2
        vqatool compare old.csv new.csv -o differences.html
    """
    from ladder.storage import Table
    from vqatool.cli.tables import comparison_table
    from vqatool.reporting.comparison import ComparisonRow, DropGate, PairBy
    from vqatool.reporting.comparison import compare as compare_reports
    from vqatool.scoring.formats import is_page
    from vqatool.scoring.report_file import read_report
    from vqatool.terminal import console, print_message, print_note

    on_stdout, out = _on_stdout(out, is_json)
    _refuse_others(out)  # before the work
    sources, gate = (before, after), DropGate(max_drop, fails_on_missing)
    rows = read_report(before), read_report(after)
    found = compare_reports(*rows, PairBy(by))
    is_paged = out is not None and is_page(out)
    content = _content(found, gate, sources, rows, per_segment) if is_paged else None
    write = stdout_writer(on_stdout, Table(Path("differences.csv"), ComparisonRow))
    for row in found.rows:
        write(row)
    if not on_stdout:
        console(is_result=True).print(comparison_table(found.rows))
    unwritten: list[str] = []
    if out:
        with or_told(out, unwritten):
            if content:
                _write_page(content, out, has_thumbnails=thumbnails, jobs=jobs)
            else:
                _write_table(found, out)
    for remark in found.remarks:
        print_note(f"warning: {remark}")
    print_note(_summary(found))
    for reason in unwritten:
        print_message(f"failed: {reason}")
    _check(found, gate, after)
    if unwritten:
        raise click.exceptions.Exit(ExitCode.USAGE)


def _check(found: "Comparison", gate: "DropGate", after: Path) -> None:
    """Name what does not pass, and what is gone; exit if anything does not pass."""
    from vqatool.cli.tables import named_reason
    from vqatool.terminal import print_message

    if not gate.fails_on_missing:
        _name_gone(found, after)
    missed = list(filter(gate.is_missed, found.rows))
    for row in missed:
        print_message(named_reason(row.video, _reason(row, gate.max_drop or 0.0, after)))
    if missed:
        raise click.exceptions.Exit(ExitCode.GATE_FAILED)


def _name_gone(found: "Comparison", after: Path) -> None:
    """Print each video that the later report lacks, which is no drop but may be a fault."""
    from vqatool.reporting.comparison import Outcome
    from vqatool.terminal import print_note

    gone = [row.video for row in found.rows if row.outcome == Outcome.ONLY_BEFORE]
    for video in gone[:_MOST_GONE]:
        print_note(f"{video}: not in {after}")
    if len(gone) > _MOST_GONE:
        print_note(f"{len(gone) - _MOST_GONE} more are not in {after}: -o has all")


_MOST_GONE = 20


def _reason(row: "ComparisonRow", max_drop: float, after: Path) -> str:
    """Why the video does not pass."""
    from vqatool.reporting.comparison import Outcome
    from vqatool.scoring.gates import with_decimals

    if row.difference is None:
        return f"not in {after}" if row.outcome == Outcome.ONLY_BEFORE else "lost its score"
    return f"fell by {with_decimals(-row.difference, lambda points: points >= max_drop)}"


def _on_stdout(out: Path | None, is_json: bool) -> tuple[str, Path | None]:
    """In which form rows go to stdout, `json`, `csv` or "" (none do), and the file for them."""
    if out != STDOUT:
        return "json" if is_json else "", out
    if is_json:
        raise click.UsageError("-o - and --json both write to stdout: leave one out")
    return "csv", None


def _refuse_others(out: Path | None) -> None:
    """An error if the file to write is another program's."""
    from vqatool.files import require_own_texts, require_writable
    from vqatool.reporting.comparison import ComparisonRow
    from vqatool.scoring.formats import is_page
    from vqatool.scoring.report_file import ReportFile

    if out and is_page(out):
        require_own_texts([out])
    elif out:
        ReportFile(out, ComparisonRow).known()
        require_writable([out])


def _write_table(found: "Comparison", out: Path) -> None:
    from vqatool.reporting.comparison import ComparisonRow
    from vqatool.scoring.report_file import ReportFile

    ReportFile(out, ComparisonRow).end(found.rows)


def _content(
    found: "Comparison",
    gate: "DropGate",
    sources: tuple[Path, Path],
    rows: "tuple[Sequence[ReportRow], Sequence[ReportRow]]",
    per_segment: tuple[Path, Path] | None,
) -> "ComparisonContent":
    from vqatool.reporting.comparison_page import ComparisonContent, Side
    from vqatool.scoring.report_file import segments_by_path

    segments = [segments_by_path([path]) for path in per_segment or ()] or [{}, {}]
    before, after = map(Side.of, sources, rows, segments)
    return ComparisonContent(comparison=found, gate=gate, before=before, after=after)


def _write_page(
    content: "ComparisonContent", out: Path, *, has_thumbnails: bool, jobs: int | None
) -> None:
    from vqatool.cli.progress import Progress
    from vqatool.reporting.comparison_page import write_comparison_page

    with Progress("pictures") as progress:
        write_comparison_page(
            content,
            out,
            has_thumbnails=has_thumbnails,
            jobs=jobs,
            on_pictures=partial(progress.show, "pictures"),
        )


def _summary(found: "Comparison") -> str:
    from vqatool.reporting.comparison import Outcome

    num_compared = found.count(Outcome.COMPARED)
    parts = [f"{num_compared} compared"]
    if num_compared:
        mean, low, high = found.mean
        interval = "" if math.isnan(low) else f" (95 %: {low:+.2f} to {high:+.2f})"
        parts[0] += f", mean difference {mean:+.2f}{interval}"
    parts += found.others()
    return "; ".join(parts)
