"""Stages 1 and 2 on the command line: ladder and label."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import counts, exit_on_failures, ffmpeg_option, jobs_option, work_folder

if TYPE_CHECKING:  # for annotations alone: PyAV loads in the commands
    pass


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
    from ladder.label.metrics import FEATURES, model_names
    from ladder.label.run import LabelOptions
    from ladder.media.ffmpeg import find_ffmpeg
    from vqatool.cli.live import run_label
    from vqatool.cli.tables import label_summary
    from vqatool.terminal import console, print_message

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
    print_message(f"{folder / 'labels.csv'}: {counts(rows)}; next: vqatool train {folder}")
    exit_on_failures(rows)
