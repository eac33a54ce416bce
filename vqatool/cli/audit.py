"""Stages 5 and 6 on the command line: score."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    GATE_FAILED,
    NO_VIDEO,
    SOME_FAILED,
    DisplayType,
    counts,
    device_option,
    fail,
    jobs_option,
    model_option,
    name_failures,
    predictor_for,
)

if TYPE_CHECKING:  # for annotations alone
    from vqatool.score import Display


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              default=Path("report.csv"), show_default=True, help="Report to write.")  # fmt: skip
@model_option
@click.option("--display", type=DisplayType(), default="1920x1080", show_default=True,
              help="Screen the videos are judged on; native is pixel for pixel.")  # fmt: skip
@click.option("--segment", "segment_s", type=click.FloatRange(0.5), default=10.0,
              show_default=True, help="Seconds that get a score of their own.")  # fmt: skip
@click.option("--fail-under", type=click.FloatRange(0, 100),
              help="Exit with 3 if any score is below.")  # fmt: skip
@click.option("--force", is_flag=True, help="Score again what the report already holds.")
@jobs_option
@device_option
def score(
    paths: tuple[Path, ...],
    out: Path,
    model: Path | None,
    display: "Display",
    segment_s: float,
    fail_under: float | None,
    force: bool,
    jobs: int | None,
    device: str,
) -> None:
    """Score videos: every file in PATHS (files or folders) gets one row of a CSV report.

    \b
    Example:
        vqatool score encodes/ -o report.csv --fail-under 70
    """
    from ladder.find import find_videos
    from vqatool.live import run_score
    from vqatool.report import missed_gate, score_summary
    from vqatool.score import ScoreOptions
    from vqatool.terminal import console, say

    found = find_videos(paths)
    if not found.videos:
        fail(f"no video found in {', '.join(map(str, paths))}", NO_VIDEO)
    predictor = predictor_for(model, device)
    options = ScoreOptions(display=display, segment_s=segment_s)
    rows = run_score(found.videos, predictor, options, out, jobs=jobs, is_forced=force)
    console().print(score_summary(rows, fail_under))
    passed_over = f", {found.skipped_count} other files passed over" if found.skipped_count else ""
    say(f"{out}: {counts(rows)}{passed_over}; model {predictor.name}")
    has_failures = name_failures(rows)
    missed = missed_gate(rows, fail_under)
    for row in missed:
        say(f"below {fail_under:g}: {row.path} has {row.score:.2f}")
    if missed or has_failures:
        # the gate was asked for: its exit code goes before that of failures
        raise click.exceptions.Exit(GATE_FAILED if missed else SOME_FAILED)
