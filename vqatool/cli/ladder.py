"""Stages 1 and 2 on the command line: ladder and label."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ladder.codecs import CODECS
from vqatool.cli.options import (
    NO_VIDEO,
    WORK_FOLDER,
    ParsedType,
    counts,
    exit_on_failures,
    fail,
    ffmpeg_option,
    jobs_option,
)

if TYPE_CHECKING:  # for annotations alone: PyAV loads in the commands
    from ladder.encode.ladders import Ladder
    from ladder.media.ffmpeg import Ffmpeg
    from ladder.media.time_ranges import TimeRange, TrimSpec


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", "folder", type=click.Path(file_okay=False, path_type=Path),
              default=WORK_FOLDER, show_default=True, help="Work folder.")  # fmt: skip
@click.option("--rungs", "ladder_name", default="apple-hls", show_default=True, metavar="NAME|FILE",
              help="apple-hls, netflix-2015, youtube, crf-sweep, mixed-540p, training (16 "
              "rungs chosen for each source, evenly spread in VMAF), or a TOML file.")  # fmt: skip
@click.option("--codec", "codecs", multiple=True,
              type=click.Choice(list(CODECS)),
              help="Every rung with this codec instead of its own; may be repeated.")  # fmt: skip
@click.option("--clip", type=ParsedType("START+LENGTH", "parse_time_range"),
              help="Take these seconds of every source, such as 30+10.")  # fmt: skip
@click.option("--segments", type=ParsedType("NxSECONDS", "parse_segments"),
              help="Take N pieces of every source, spread evenly, joined: 3x10.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the ffmpeg commands and make nothing.")
@jobs_option
@ffmpeg_option
def ladder(
    sources: tuple[Path, ...],
    folder: Path,
    ladder_name: str,
    codecs: tuple[str, ...],
    clip: "TimeRange | None",
    segments: tuple[int, float] | None,
    dry_run: bool,
    jobs: int | None,
    ffmpeg_path: Path | None,
) -> None:
    """Transcode SOURCES (files or folders) into the rungs of a bitrate ladder.

    \b
    Example:
        vqatool ladder src.mp4 --rungs netflix-2015 --codec libx265
        vqatool ladder film.mkv --rungs training --segments 4x8
    """
    from ladder.encode.ladders import ladder_named, with_codecs
    from ladder.media.ffmpeg import find_ffmpeg
    from ladder.media.time_ranges import TrimSpec
    from vqatool.cli.live import run_ladder
    from vqatool.terminal import print_message

    if clip and segments:
        raise click.UsageError("--clip and --segments say two things about one source: use one")
    ffmpeg = find_ffmpeg(ffmpeg_path)
    rungs, trim = with_codecs(ladder_named(ladder_name), codecs), TrimSpec(clip, segments)
    videos = _sources_in(sources, folder)
    if dry_run:
        _print_commands(videos, rungs, folder, trim, ffmpeg, jobs)
        return
    rows = run_ladder(videos, rungs, folder, ffmpeg, trim=trim, jobs=jobs)
    print_message(f"{folder / 'encodes.csv'}: {counts(rows)}; next: vqatool label {folder} --vmaf")
    exit_on_failures(rows)


def _sources_in(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The videos to encode; ends the program if there is none."""
    from ladder.media.discover import find_videos

    found = find_videos(paths).videos
    # encodes made before are no sources, though they may lie in a folder that was named
    videos = [path for path in found if folder.resolve() not in path.resolve().parents]
    if not videos:
        fail(f"no video found in {', '.join(map(str, paths))}", NO_VIDEO)
    return videos


def _print_commands(
    videos: Sequence[Path],
    rungs: "Ladder",
    folder: Path,
    trim: "TrimSpec",
    ffmpeg: "Ffmpeg",
    jobs: int | None,
) -> None:
    """The commands of the first round, and a row's reason where there is none."""
    from ladder.adaptive import ladder_rounds
    from ladder.encode.run import shell_commands
    from vqatool.terminal import print_message

    first = next(ladder_rounds(videos, rungs, folder, trim=trim))
    for command in shell_commands(first.plan, ffmpeg, jobs):
        click.echo(os.fsencode(command))  # names need not be valid UTF-8
    if first.to_label:
        print_message("the other rungs are chosen by the VMAF of these")
    exit_on_failures(first.plan.failed)
