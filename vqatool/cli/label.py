"""`vqatool label`: stage 2, encodes -> VMAF labels."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ladder.label.metrics import METRICS, features, model_names, vmaf_models
from vqatool.cli.options import (
    count_rows,
    exit_on_failures,
    ffmpeg_option,
    jobs_option,
    work_folder,
)

if TYPE_CHECKING:  # for annotations alone: these modules load PyAV
    from ladder.label.rows import LabelRow
    from ladder.label.run import LabelOptions, LabelPlan
    from ladder.media.ffmpeg import Ffmpeg

_FEATURES = ", ".join(
    f"{name} (always)" if metric.is_always_measured else name for name, metric in features().items()
)


def _split_names(ctx: click.Context, param: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@click.command()
@work_folder
@click.option("--vmaf", is_flag=True, expose_value=False,
              help="Label with VMAF, which is the default and the only label so far.")  # fmt: skip
@click.option("--vmaf-model", "models", default="auto", show_default=True, callback=_split_names,
              metavar="NAME[,NAME]",
              help=f"auto (v0 and neg; 4k and 4k-neg above 1440p), {', '.join(vmaf_models())} "
              "or libvmaf's own name; the first is the label.")  # fmt: skip
@click.option("--features", "names", default="psnr", show_default=True, callback=_split_names,
              metavar="NAME[,NAME]", help=f"Besides VMAF: {_FEATURES}.")  # fmt: skip
@click.option("--subsample", type=click.IntRange(1, 99), default=1, show_default=True,
              help="Measure every n-th frame; must be odd.")  # fmt: skip
@click.option(
    "--sync",
    is_flag=True,
    help="Find the offset of encodes that begin late or early, and pair frames by it.",
)
@jobs_option
@ffmpeg_option
def label(
    folder: Path,
    models: tuple[str, ...],
    names: tuple[str, ...],
    subsample: int,
    sync: bool,
    jobs: int | None,
    ffmpeg_path: Path | None,
) -> None:
    """Measure the VMAF of every encode.

    Each encode in FOLDER (default: encodes) is compared with its source. Run again, the command
    measures only what is missing.

    \b
    Example:
        vqatool label encodes --vmaf-model auto,phone --features ssim
    """
    from ladder.label.run import LabelOptions
    from ladder.media.ffmpeg import find_ffmpeg
    from vqatool.cli.tables import label_summary
    from vqatool.terminal import console, print_message

    if subsample % 2 == 0:
        raise click.UsageError(
            f"--subsample {subsample} is even, which biases VMAF: use an odd number"
        )
    unknown = [name for name in names if name not in features()]
    if unknown or not models:
        raise click.UsageError(
            f"--features {unknown[0]!r} is not one of {', '.join(features())}"
            if unknown
            else "--vmaf-model names no model"
        )
    options = LabelOptions(
        models=model_names(models),
        features=tuple(name for name in names if not METRICS[name].is_always_measured),
        subsample=subsample,
        sync=sync,
    )
    rows = run_label(folder, find_ffmpeg(ffmpeg_path), options, jobs=jobs)
    console().print(label_summary(rows))
    print_message(f"{folder / 'labels.csv'}: {count_rows(rows)}; next: vqatool train {folder}")
    exit_on_failures(rows)


def run_label(
    folder: Path, ffmpeg: "Ffmpeg", options: "LabelOptions", *, jobs: int | None = None
) -> "list[LabelRow]":
    """Label every good encode of the folder; returns new labels and those of earlier runs.

    Raises:
        TrainingDataError: the folder holds no encodes.
    """
    from ladder.label.run import plan_labels
    from vqatool.errors import TrainingDataError

    plan = plan_labels(folder, options)
    if not plan.jobs and not plan.done:
        raise TrainingDataError(
            f"{folder} holds no encodes: run `vqatool ladder SRC... -o {folder}` first"
        )
    return run_label_plan(plan, folder, ffmpeg, jobs, "labelling")


def run_label_plan(
    plan: "LabelPlan", folder: Path, ffmpeg: "Ffmpeg", jobs: int | None, name: str
) -> "list[LabelRow]":
    """Make the labels of a plan and show progress under that name; returns old and new labels."""
    from ladder.label.run import make_labels
    from vqatool.cli.progress import Progress
    from vqatool.terminal import print_note

    if plan.done:
        print_note(f"{name}: {len(plan.done)} labels exist already")
    rows = list(plan.done)
    costs = {row.key: float(row.frame_count or 1) for row in plan.jobs}
    with Progress(name, costs) as progress:
        for row in make_labels(plan, folder, ffmpeg, jobs=jobs, on_progress=progress.update):
            progress.finish(row.key)
            rows.append(row)
    return rows
