"""`vqatool score`: stage 5, any videos -> a report."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqatool.cli.options import (
    count_rows,
    device_option,
    display_option,
    fail,
    jobs_option,
    model_option,
    name_failures,
    name_unreadable,
    predictor_for,
)
from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone
    from vqatool.inference.predictor import Predictor
    from vqatool.scoring.gates import Gate
    from vqatool.scoring.rows import ReportRow
    from vqatool.scoring.segments import Display, ScoreConfig
    from vqatool.scoring.shards import Shard


class ShardType(click.ParamType["Shard"]):
    """A share of the work such as 2/8."""

    name = "N/COUNT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Shard":
        from vqatool.scoring.shards import Shard

        try:
            return value if isinstance(value, Shard) else Shard.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              default=Path("report.csv"), show_default=True,
              help="Report to write: .csv, .json, .jsonl or .parquet.")  # fmt: skip
@click.option("--per-segment", type=click.Path(dir_okay=False, path_type=Path),
              help="File for the scores of segments, one row each.")  # fmt: skip
@click.option("--include", multiple=True, metavar="GLOB",
              help="Score only files whose name matches. Repeatable.")  # fmt: skip
@click.option("--exclude", multiple=True, metavar="GLOB",
              help="Skip files whose name matches. Repeatable.")  # fmt: skip
@model_option
@display_option
@click.option("--segment", "segment_s", type=click.FloatRange(0.5), default=10.0,
              show_default=True, help="Length of a segment, in seconds.")  # fmt: skip
@click.option("--fail-under", type=click.FloatRange(0, 100),
              help="Exit with code 3 if any score is below this.")  # fmt: skip
@click.option(
    "--gate-on",
    type=click.Choice(["score", "score_low", "score_min", "score_p5"]),
    default="score",
    show_default=True,
    help="Column that --fail-under compares.",
)
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path),
              help="File for the outcome as JUnit XML.")  # fmt: skip
@click.option("--shard", type=ShardType(), help="Score one part of the files, such as 2/8.")
@click.option("--force", is_flag=True, help="Score again the files that the report already holds.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1),
    default=120.0,
    show_default=True,
    help="Seconds that decoding 2 segments may take before a file becomes an error row.",
)
@click.option("--batch", type=click.IntRange(1),
              help="Segments in one batch of the model.  [default: 1, or 16 on a GPU]")  # fmt: skip
@jobs_option
@device_option
def score(
    paths: tuple[str, ...],
    out: Path,
    per_segment: Path | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    model: Path | None,
    display: "Display",
    segment_s: float,
    fail_under: float | None,
    gate_on: str,
    junit: Path | None,
    shard: "Shard | None",
    force: bool,
    timeout_s: float,
    batch: int | None,
    jobs: int | None,
    device: str,
) -> None:
    """Score videos without a reference.

    Each video becomes one row of the report; a file that cannot be read becomes a row with the
    reason. PATHS are files, folders (with their subfolders), globs, @FILE for a list of paths, or -
    for such a list on stdin. Run again, the command scores only what is missing.

    \b
    Example:
        vqatool score encodes/ -o report.csv --fail-under 70
        vqatool score encodes/ --exclude '*_source.*' --per-segment timeline.csv
        vqatool score @list.txt --shard 2/8 -o part-2.csv
    """
    from vqatool.inputs.decode_pool import start_server
    from vqatool.memory import return_freed_memory
    from vqatool.terminal import print_note

    return_freed_memory()
    start_server()  # the server loads what workers need while this process loads the model
    videos, unreadable, note = _videos(paths, include, exclude, shard)
    if videos:  # before what takes longer than a blink
        print_note(f"scoring {videos[0]}" + f" and {len(videos) - 1} more" * (len(videos) > 1))
    predictor = predictor_for(model, device, batch=batch)

    from vqatool.scoring.gates import Gate, junit_xml
    from vqatool.scoring.segments import ScoreConfig

    config = ScoreConfig(display, segment_s, jobs, timeout_s)
    rows = run_score(
        videos, out, predictor, config, per_segment=per_segment, shard=shard, is_forced=force
    )
    gate = Gate(fail_under, gate_on)
    if junit:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_text(junit_xml(rows, gate), encoding="utf-8")
    summary = f"{out}: {count_rows(rows)}{note}; model {predictor.name}"
    _print_outcome(rows, unreadable, gate, summary)


def _videos(
    paths: Sequence[str], include: Sequence[str], exclude: Sequence[str], shard: "Shard | None"
) -> tuple[list[Path], tuple[Path, ...], str]:
    """The files to score, folders without access, and a note on the others; exits without video."""
    from ladder.media.discover import FileFilter, expand_arguments, find_videos

    named = expand_arguments(paths, sys.stdin.buffer)
    found = find_videos(named, FileFilter(include, exclude))
    if not found.videos:
        name_unreadable(found.unreadable)
        fail(f"no video found in {', '.join(paths)}", ExitCode.NO_VIDEO)
    videos = [path for path in found.videos if not shard or shard.matches(path)]
    others = f", {found.skipped_count} other files skipped" if found.skipped_count else ""
    share = f" (shard {shard} of {len(found.videos)} files)" if shard else ""
    return videos, found.unreadable, share + others


def run_score(
    videos: Sequence[Path],
    out: Path,
    predictor: "Predictor",
    config: "ScoreConfig",
    *,
    per_segment: Path | None = None,
    shard: "Shard | None" = None,
    is_forced: bool = False,
) -> "list[ReportRow]":
    """Score the videos that the report lacks; returns new rows and those of earlier runs."""
    from vqatool.cli.progress import Progress
    from vqatool.scoring.report_file import write_report

    rows = []
    costs = {str(path): 1.0 for path in videos}
    with Progress("scoring", costs) as progress:
        for row in write_report(
            videos,
            out,
            predictor,
            config,
            per_segment=per_segment,
            shard=shard,
            is_forced=is_forced,
        ):
            progress.finish(row.path)
            rows.append(row)
    return rows


def _print_outcome(
    rows: "Sequence[ReportRow]", unreadable: Sequence[Path], gate: "Gate", summary: str
) -> None:
    """Print the table, the summary, each failure and each missed gate, and exit accordingly."""
    from vqatool.cli.tables import score_summary
    from vqatool.terminal import console, print_message

    console().print(score_summary(rows, gate))
    print_message(summary)
    has_failures = name_unreadable(unreadable)
    has_failures |= name_failures(rows)
    missed = [row for row in rows if gate.is_missed(row)]
    for row in missed:
        print_message(f"{row.path}: {gate.message(row)}")
    if missed or has_failures:
        # the user asked for the gate, so its exit code wins over that of failures
        raise click.exceptions.Exit(ExitCode.GATE_FAILED if missed else ExitCode.SOME_FAILED)
