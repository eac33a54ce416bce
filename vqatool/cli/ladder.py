"""`vqatool ladder`: stage 1, sources -> encodes."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ladder.codecs import CODECS
from vqatool.cli.cluster import cluster_options, runner_on
from vqatool.cli.label import run_label_plan
from vqatool.cli.observe import Watch, metrics_option
from vqatool.cli.options import (
    WORK_FOLDER,
    HereType,
    ParsedType,
    SourceType,
    count_rows,
    exit_on_failures,
    fail,
    ffmpeg_option,
    jobs_option,
    name_unreadable,
    stdout_writer,
    tonemap_option,
)
from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone: these modules load PyAV
    from ladder.encode.ladders import Ladder
    from ladder.encode.plan import EncodeRow, LadderPlan
    from ladder.media.discover import DiscoveredFiles
    from ladder.media.ffmpeg import Ffmpeg
    from ladder.media.time_ranges import TimeRange, TrimSpec
    from ladder.recommend.adaptive import EncodeRound
    from ladder.runner import Runner
    from vqatool.cluster import ClusterRequest


def _complete_rungs(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from ladder.encode.ladders import LADDERS

    names = [CompletionItem(name) for name in LADDERS if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


@click.command()
@click.argument("sources", nargs=-1, required=True, type=SourceType())
@click.option("-o", "--out", "folder", type=HereType(file_okay=False, path_type=Path),
              default=WORK_FOLDER, show_default=True, help="Work folder.")  # fmt: skip
@click.option("--rungs", "ladder_name", default="apple-hls", show_default=True, metavar="NAME|FILE",
              shell_complete=_complete_rungs,
              help="apple-hls, netflix-2015, youtube, crf-sweep, mixed-540p, training (16 "
              "rungs chosen for each source, evenly spread in VMAF) or a TOML file.")  # fmt: skip
@click.option("--codec", "codecs", multiple=True,
              type=click.Choice(list(CODECS)),
              help="Encode every rung with this codec instead of its own. Repeatable.")  # fmt: skip
@click.option("--clip", type=ParsedType("START+LENGTH", "parse_time_range"),
              help="Part of every source to encode, in seconds, such as 30+10.")  # fmt: skip
@click.option("--segments", type=ParsedType("NxSECONDS", "parse_segments"),
              help="N parts of every source, evenly spread and joined, such as 3x10.")  # fmt: skip
@tonemap_option("Make SDR encodes of HDR sources (PQ, HLG); else they stay HDR.")
@click.option("--json", "is_json", is_flag=True,
              help="Print each encode on stdout as a line of JSON.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the ffmpeg commands without running them.")
@jobs_option
@ffmpeg_option
@cluster_options
@metrics_option
def ladder(
    sources: tuple[Path, ...],
    folder: Path,
    ladder_name: str,
    codecs: tuple[str, ...],
    clip: "TimeRange | None",
    segments: tuple[int, float] | None,
    tonemap: bool,
    is_json: bool,
    dry_run: bool,
    jobs: int | None,
    ffmpeg_path: Path | None,
    cluster: "ClusterRequest | None",
) -> None:
    """Encode sources into a bitrate ladder.

    SOURCES are files or folders. Each is encoded at every rung that is not above its own size. Run
    again, the command makes only what is missing.

    \b
    Example:
        vqatool ladder src.mp4 --rungs netflix-2015 --codec libx265
        vqatool ladder film.mkv --rungs training --segments 4x8
    """
    from ladder.encode.ladders import ladder_named, with_codecs
    from ladder.encode.plan import encodes_table
    from ladder.media.ffmpeg import find_ffmpeg
    from ladder.media.remote import is_url
    from ladder.media.time_ranges import TrimSpec
    from vqatool.terminal import print_note

    if is_json and dry_run:
        raise click.UsageError("--dry-run and --json both write to stdout: leave one out")
    if clip and segments:
        raise click.UsageError("--clip and --segments both choose a part of the source: use one")
    ffmpeg = find_ffmpeg(ffmpeg_path)
    rungs, trim = with_codecs(ladder_named(ladder_name), codecs), TrimSpec(clip, segments)
    found = find_sources_or_fail(sources, folder)
    if dry_run:
        if remote := next((str(each) for each in found.videos if is_url(str(each))), None):
            raise click.UsageError(f"--dry-run prints commands for files here: copy {remote} first")
        failed = _print_commands(found.videos, rungs, folder, trim, ffmpeg, jobs, tonemap)
        exit_on_failures(failed, found.unreadable)
        return
    write = stdout_writer("json" if is_json else "", encodes_table(folder))
    with runner_on(cluster, jobs) as runner:
        rows = run_ladder(
            found.videos, rungs, folder, ffmpeg,
            trim=trim, tonemap=tonemap, runner=runner, write=write,
        )  # fmt: skip
    print_note(
        f"{folder / 'encodes.csv'}: {count_rows(rows, 'encoded')}; next: vqatool label {folder}"
    )
    exit_on_failures(rows, found.unreadable)


def run_ladder(
    videos: Sequence[Path],
    ladder: "Ladder",
    folder: Path,
    ffmpeg: "Ffmpeg",
    *,
    trim: "TrimSpec | None" = None,
    tonemap: bool = False,
    runner: "Runner | None" = None,
    write: "Callable[[EncodeRow], None]" = lambda row: None,
) -> "list[EncodeRow]":
    """Encode every video at every rung; returns new encodes and those of earlier runs.

    An adaptive ladder takes several rounds: it labels the encodes of one to choose the rungs of
    the next. `write` receives each row as it is known.
    """
    from ladder.media.time_ranges import FULL
    from ladder.recommend.adaptive import ladder_rounds

    rounds = ladder_rounds(videos, ladder, folder, trim=trim or FULL, tonemap=tonemap)
    return run_rounds(rounds, folder, ffmpeg, runner=runner, write=write)


def run_rounds(
    rounds: "Iterable[EncodeRound]",
    folder: Path,
    ffmpeg: "Ffmpeg",
    *,
    runner: "Runner | None" = None,
    write: "Callable[[EncodeRow], None]" = lambda row: None,
) -> "list[EncodeRow]":
    """Make the encodes of every round, and the labels it asks for; returns new and old encodes."""
    from ladder.label.run import plan_labels
    from ladder.runner import LocalRunner

    runner = runner or LocalRunner()
    rows: list[EncodeRow] = []
    for number, each in enumerate(rounds, 1):
        suffix = f" (round {number})" if each.labels else ""
        rows += _run_ladder_plan(each.plan, folder, ffmpeg, runner, f"encoding{suffix}", write)
        if each.labels:
            labels = plan_labels(folder, each.labels, only=each.keys)
            run_label_plan(labels, folder, ffmpeg, runner, f"labelling{suffix}")
    return rows


def _run_ladder_plan(
    plan: "LadderPlan",
    folder: Path,
    ffmpeg: "Ffmpeg",
    runner: "Runner",
    name: str,
    write: "Callable[[EncodeRow], None]",
) -> "list[EncodeRow]":
    from ladder.encode.run import make_encodes
    from vqatool.cli.progress import Progress
    from vqatool.terminal import print_note

    if text := too_large_text(plan):
        print_note(text)
    if plan.done:
        print_note(f"{name}: {len(plan.done)} encodes exist already")
    rows = list(plan.done)
    for row in plan.done:
        write(row)
    watch = Watch("ladder", len(plan.done) + len(plan.jobs) + len(plan.failed), len(plan.done))
    costs = {job.row.key: job.cost for job in plan.jobs}
    with Progress(name, costs, unit="encodes") as progress:
        made = make_encodes(plan, folder, ffmpeg, runner=runner, on_progress=progress.update)
        for row in watch.rows(made):
            progress.finish(row.key)
            write(row)
            rows.append(row)
    return rows


def too_large_text(plan: "LadderPlan") -> str:
    """Which rungs are above the size of their source, in one line; empty: none are."""
    if not plan.too_large:
        return ""
    source, rungs = plan.too_large[0]
    width, height = source.info.display_size
    names = ", ".join(rung.name for rung in rungs)
    text = f"left out, above {source.name}'s own {width}x{height}: {names}"
    more = len(plan.too_large) - 1
    return text + (f"; and rungs above {more} more source{'s' * (more > 1)}" if more else "")


def find_sources_or_fail(paths: Sequence[Path], folder: Path) -> "DiscoveredFiles":
    """The videos to encode, and the folders without access; exits if there is no video."""
    from ladder.encode.plan import find_sources

    found = find_sources(paths, folder)
    if not found.videos:
        name_unreadable(found.unreadable)
        fail(f"no video found in {', '.join(map(str, paths))}", ExitCode.NO_VIDEO)
    return found


def _print_commands(
    videos: Sequence[Path],
    rungs: "Ladder",
    folder: Path,
    trim: "TrimSpec",
    ffmpeg: "Ffmpeg",
    jobs: int | None,
    tonemap: bool,
) -> "Sequence[EncodeRow]":
    """Print the commands of the first round; returns a row for each source without one."""
    from ladder.encode.run import shell_commands
    from ladder.recommend.adaptive import ladder_rounds
    from vqatool.terminal import print_note

    first = next(ladder_rounds(videos, rungs, folder, trim=trim, tonemap=tonemap))
    if text := too_large_text(first.plan):
        print_note(text)
    for command in shell_commands(first.plan, ffmpeg, jobs):
        click.echo(os.fsencode(command))  # file names may be invalid UTF-8
    if first.labels:
        print_note("the VMAF of these encodes decides the other rungs")
    return first.plan.failed
