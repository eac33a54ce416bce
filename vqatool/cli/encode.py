"""Stages 1 and 2 on the command line: ladder and label."""

import os
from pathlib import Path

import click

from vqatool.cli.options import (
    NO_VIDEO,
    WORK_FOLDER,
    counts,
    exit_on_failures,
    fail,
    ffmpeg_option,
    jobs_option,
    work_folder,
)


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", "folder", type=click.Path(file_okay=False, path_type=Path),
              default=WORK_FOLDER, show_default=True, help="Work folder.")  # fmt: skip
@click.option("--rungs", "ladder_name", default="apple-hls", show_default=True, metavar="NAME|FILE",
              help="apple-hls, netflix-2015, crf-sweep, training, or a TOML file.")  # fmt: skip
@click.option("--codec", "codecs", multiple=True,
              type=click.Choice(["libx264", "libx265", "libsvtav1", "libvpx-vp9"]),
              help="Every rung with this codec instead of its own; may be repeated.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the ffmpeg commands and make nothing.")
@jobs_option
@ffmpeg_option
def ladder(
    sources: tuple[Path, ...],
    folder: Path,
    ladder_name: str,
    codecs: tuple[str, ...],
    dry_run: bool,
    jobs: int | None,
    ffmpeg_path: Path | None,
) -> None:
    """Transcode SOURCES (files or folders) into the rungs of a bitrate ladder.

    \b
    Example:
        vqatool ladder src.mp4 --rungs netflix-2015 --codec libx265
    """
    from ladder.ffmpeg import find_ffmpeg
    from ladder.find import find_videos
    from ladder.rungs import ladder_named, with_codecs
    from ladder.transcode import plan_ladder, shell_commands
    from vqatool.live import run_ladder
    from vqatool.terminal import say

    ffmpeg = find_ffmpeg(ffmpeg_path)
    rungs = with_codecs(ladder_named(ladder_name), codecs)
    found = find_videos(sources).videos
    # encodes made before are no sources, though they may lie in a folder that was named
    videos = [path for path in found if folder.resolve() not in path.resolve().parents]
    if not videos:
        fail(f"no video found in {', '.join(map(str, sources))}", NO_VIDEO)
    if dry_run:
        for command in shell_commands(plan_ladder(videos, rungs, folder), ffmpeg):
            click.echo(os.fsencode(command))  # names need not be valid UTF-8
        return
    rows = run_ladder(videos, rungs, folder, ffmpeg, jobs)
    say(f"{folder / 'encodes.csv'}: {counts(rows)}; next: vqatool label {folder} --vmaf")
    exit_on_failures(rows)


@click.command()
@work_folder
@click.option("--vmaf", is_flag=True, help="Label with VMAF (the one label there is so far).")
@click.option("--vmaf-model", "models", default="v0", show_default=True, metavar="NAME[,NAME]",
              help="v0, neg, v1 or libvmaf's own name; the first is the label.")  # fmt: skip
@click.option("--subsample", type=click.IntRange(1, 99), default=1, show_default=True,
              help="Measure every n-th frame; odd.")  # fmt: skip
@jobs_option
@ffmpeg_option
def label(
    folder: Path,
    vmaf: bool,
    models: str,
    subsample: int,
    jobs: int | None,
    ffmpeg_path: Path | None,
) -> None:
    """Label every encode in FOLDER (default: encodes) against its source.

    \b
    Example:
        vqatool label encodes --vmaf --vmaf-model v0,neg
    """
    from ladder.ffmpeg import find_ffmpeg
    from ladder.vmaf import model_names
    from vqatool.live import run_label
    from vqatool.report import label_summary
    from vqatool.terminal import console, say

    if not vmaf:
        raise click.UsageError("say which label to make: --vmaf")
    if subsample % 2 == 0:
        raise click.UsageError(
            f"--subsample {subsample} is even, which biases VMAF: use an odd one"
        )
    ffmpeg = find_ffmpeg(ffmpeg_path)
    names = model_names([name.strip() for name in models.split(",") if name.strip()])
    rows = run_label(folder, ffmpeg, names, jobs, subsample)
    console().print(label_summary(rows))
    say(f"{folder / 'labels.csv'}: {counts(rows)}; next: vqatool train {folder}")
    exit_on_failures(rows)
