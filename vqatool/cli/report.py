"""`vqatool report`: reports of `score` -> one page of HTML that people read."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.gates import gate_of, gate_options
from vqatool.cli.options import FileType, jobs_option
from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone
    from vqatool.reporting.report_page import Report

_FILE = FileType(exists=True)


@click.command()
@click.argument("reports", nargs=-1, required=True, type=_FILE)
@click.option("-o", "--out", type=FileType(),
              default=Path("report.html"), show_default=True,
              help="Page to write.")  # fmt: skip
@click.option("--per-segment", multiple=True, type=_FILE,
              help="File of `score --per-segment`, for the timelines. Repeatable.")  # fmt: skip
@gate_options
@click.option("--thumbnails/--no-thumbnails", default=True, show_default=True,
              help="Show pictures of the worst files.")  # fmt: skip
@jobs_option
def report(
    reports: tuple[Path, ...],
    out: Path,
    per_segment: tuple[Path, ...],
    fail_under: float | None,
    thresholds: Path | None,
    fail_on: tuple[str, ...],
    trust: bool,
    gate_on: str,
    thumbnails: bool,
    jobs: int | None,
) -> None:
    """Make one page of the reports of `score`.

    The page is a single file of at most 5 MB that fetches nothing: counts, distribution of scores,
    errors and warnings with what to do, a table that sorts and filters, and the 50 lowest scores
    with timelines and pictures. The videos are read for the pictures alone, as far as they are
    there and as they were scored.

    \b
    Example:
        vqatool report report.csv --per-segment timeline.csv -o report.html
        vqatool report part-*.csv --fail-under 70
    """
    from vqatool.files import require_own_texts
    from vqatool.reporting.report_page import Report
    from vqatool.scoring.formats import is_page
    from vqatool.terminal import print_note

    if not is_page(out):
        raise click.UsageError(f"-o {out} is no name of a page: it ends in .html")
    require_own_texts([out])
    gate = gate_of(fail_under, thresholds, gate_on, fail_on, trust)
    content = Report.read(reports, per_segment, gate)
    print_note(write_page_of(content, out, has_thumbnails=thumbnails, jobs=jobs))
    if any(map(gate.is_missed, content.rows)):
        raise click.exceptions.Exit(ExitCode.GATE_FAILED)


def write_page_of(
    content: "Report", out: Path, *, has_thumbnails: bool = True, jobs: int | None = None
) -> str:
    """Write the page of reports, with progress; returns what was written in words."""
    from ladder.media.remote import written_to
    from vqatool.cli.progress import Progress
    from vqatool.reporting.report_page import write_page

    with Progress("pictures") as progress, written_to(out) as page:
        size = write_page(
            content,
            page,
            has_thumbnails=has_thumbnails,
            jobs=jobs,
            on_pictures=partial(progress.show, "pictures"),
        )
    return f"{out}: page of {len(content.rows)} rows, {size / 1e6:.2f} MB"
