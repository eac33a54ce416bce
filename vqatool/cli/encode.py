"""Stages 1 and 2 on the command line: ladder and label."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    NO_VIDEO,
    WORK_FOLDER,
    ParsedType,
    counts,
    exit_on_failures,
    fail,
    ffmpeg_option,
    jobs_option,
    work_folder,
)

if TYPE_CHECKING:  # for annotations alone: PyAV loads in the commands
    from ladder.ffmpeg import Ffmpeg
    from ladder.ladders import Ladder
    from ladder.pieces import Cut, Piece


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", "folder", type=click.Path(file_okay=False, path_type=Path),
              default=WORK_FOLDER, show_default=True, help="Work folder.")  # fmt: skip
@click.option("--rungs", "ladder_name", default="apple-hls", show_default=True, metavar="NAME|FILE",
              help="apple-hls, netflix-2015, youtube, crf-sweep, mixed-540p, training (16 "
              "rungs chosen for each source, evenly spread in VMAF), or a TOML file.")  # fmt: skip
@click.option("--codec", "codecs", multiple=True,
              type=click.Choice(["libx264", "libx265", "libsvtav1", "libvpx-vp9"]),
              help="Every rung with this codec instead of its own; may be repeated.")  # fmt: skip
@click.option("--clip", type=ParsedType("START+LENGTH", "parse_clip"),
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
    clip: "Piece | None",
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
    from ladder.ffmpeg import find_ffmpeg
    from ladder.ladders import ladder_named, with_codecs
    from ladder.pieces import Cut
    from vqatool.live import run_ladder
    from vqatool.terminal import say

    if clip and segments:
        raise click.UsageError("--clip and --segments say two things about one source: use one")
    ffmpeg = find_ffmpeg(ffmpeg_path)
    rungs, cut = with_codecs(ladder_named(ladder_name), codecs), Cut(clip, segments)
    videos = _sources_in(sources, folder)
    if dry_run:
        _print_commands(videos, rungs, folder, cut, ffmpeg, jobs)
        return
    rows = run_ladder(videos, rungs, folder, ffmpeg, cut=cut, jobs=jobs)
    say(f"{folder / 'encodes.csv'}: {counts(rows)}; next: vqatool label {folder} --vmaf")
    exit_on_failures(rows)


def _sources_in(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The videos to encode; ends the program if there is none."""
    from ladder.find import find_videos

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
    cut: "Cut",
    ffmpeg: "Ffmpeg",
    jobs: int | None,
) -> None:
    """The commands of the first round, and a row's reason where there is none."""
    from ladder.encode import shell_commands
    from ladder.spread import ladder_rounds
    from vqatool.terminal import say

    first = next(ladder_rounds(videos, rungs, folder, cut=cut))
    for command in shell_commands(first.plan, ffmpeg, jobs):
        click.echo(os.fsencode(command))  # names need not be valid UTF-8
    if first.to_label:
        say("the other rungs are chosen by the VMAF of these")
    exit_on_failures(first.plan.failed)


def _listed(ctx: click.Context, param: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@click.command()
@work_folder
@click.option("--vmaf", is_flag=True, help="Label with VMAF (the one label there is so far).")
@click.option("--vmaf-model", "models", default="auto", show_default=True, callback=_listed,
              metavar="NAME[,NAME]",
              help="auto (v0 and neg; 4k and 4k-neg above 1440p), v0, neg, v1, phone, 4k, 4k-neg "
              "or libvmaf's own name; the first is the label.")  # fmt: skip
@click.option("--features", default="psnr", show_default=True, callback=_listed,
              metavar="NAME[,NAME]", help="Beside VMAF: psnr (always), ssim, cambi.")  # fmt: skip
@click.option("--subsample", type=click.IntRange(1, 99), default=1, show_default=True,
              help="Measure every n-th frame; odd.")  # fmt: skip
@click.option("--sync", is_flag=True,
              help="Pair the frames that match where an encode begins late or early.")  # fmt: skip
@jobs_option
@ffmpeg_option
def label(
    folder: Path,
    vmaf: bool,
    models: tuple[str, ...],
    features: tuple[str, ...],
    subsample: int,
    sync: bool,
    jobs: int | None,
    ffmpeg_path: Path | None,
) -> None:
    """Label every encode in FOLDER (default: encodes) against its source.

    \b
    Example:
        vqatool label encodes --vmaf --vmaf-model auto,phone --features ssim
    """
    from ladder.ffmpeg import find_ffmpeg
    from ladder.label import LabelOptions
    from ladder.vmaf_models import FEATURES, model_names
    from vqatool.live import run_label
    from vqatool.report import label_summary
    from vqatool.terminal import console, say

    if not vmaf:
        raise click.UsageError("say which label to make: --vmaf")
    if subsample % 2 == 0:
        raise click.UsageError(
            f"--subsample {subsample} is even, which biases VMAF: use an odd one"
        )
    unknown = [name for name in features if name not in FEATURES]
    if unknown or not models:
        raise click.UsageError(
            f"--features {unknown[0]!r} is not one of {', '.join(FEATURES)}"
            if unknown
            else "--vmaf-model names no model"
        )
    options = LabelOptions(
        models=model_names(models),
        features=tuple(name for name in features if name != "psnr"),
        subsample=subsample,
        sync=sync,
    )
    rows = run_label(folder, find_ffmpeg(ffmpeg_path), options, jobs=jobs)
    console().print(label_summary(rows))
    say(f"{folder / 'labels.csv'}: {counts(rows)}; next: vqatool train {folder}")
    exit_on_failures(rows)
