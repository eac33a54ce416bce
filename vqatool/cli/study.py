"""Small trainings held against each other: study."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    device_option,
    device_or_usage,
    require_shape,
    size_option,
    work_folder,
)

if TYPE_CHECKING:  # for annotations alone
    from vqatool.training.learner import OnProgress, Progress

STUDY_NAMES = (
    "terms", "contrast", "weights", "temporal", "window", "view", "input", "methods", "masks",
    "teacher", "tune",
)  # fmt: skip


@click.command()
@work_folder
@click.option("--of", "studies", multiple=True, type=click.Choice(STUDY_NAMES),
              help="What is compared; may be repeated.  [default: all but tune]")  # fmt: skip
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              help="Table to write.  [default: FOLDER/study.csv]")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True,
              help="Trainings of each variant.")  # fmt: skip
@size_option("pico", "Size of the models.")
@click.option("--epochs", type=click.IntRange(1), default=6, show_default=True,
              help="Times every encode is seen.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True,
              help="Peak learning rate.")  # fmt: skip
@click.option("--init", "inits", multiple=True,
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Weights to go on from, in their size: a file of each method that is compared.  "
              "[default: from scratch; --of tune needs one of q-mamba]")  # fmt: skip
@click.option("--teacher", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Model that teaches in --of teacher.  [default: the packaged one]")  # fmt: skip
@click.option("--cost", is_flag=True,
              help="Measure costs too: parameters, operations, time, memory.")  # fmt: skip
@device_option
def study(
    folder: Path,
    studies: tuple[str, ...],
    out: Path | None,
    seeds: int,
    size: str,
    epochs: int,
    lr: float,
    inits: tuple[Path, ...],
    teacher: Path | None,
    cost: bool,
    device: str,
) -> None:
    """Compare methods, or variants of one, on FOLDER (default: encodes), each at the same budget.

    Every variant is trained with several seeds and judged on held-out sources. Killed and started
    again, it goes on where it was.

    \b
    Example:
        vqatool study encodes --of terms --of window
        vqatool study encodes --of methods --cost
        vqatool study encodes --of masks --init sama.safetensors
    """
    from vqatool.checkpoint import default_checkpoint, load_checkpoint
    from vqatool.progress import StepProgress
    from vqatool.report import study_table
    from vqatool.study import OF_WEIGHTS, STUDIES, run_study
    from vqatool.terminal import console, say
    from vqatool.training.learner import TrainConfig

    chosen = studies or tuple(name for name in STUDY_NAMES if name not in OF_WEIGHTS)
    variants = list(itertools.chain.from_iterable(STUDIES[name] for name in chosen))
    given = [load_checkpoint(path) for path in inits]
    unused = {variant.method.value for variant in variants}
    for path, init in zip(inits, given, strict=True):
        if init.card.method not in unused:
            raise click.UsageError(
                f"--init {path} is one too many of {init.card.method}, or that is not compared"
            )
        unused.remove(init.card.method)
    for variant in variants if not given else ():
        require_shape(variant.method.value, {"size": size, **variant.shape})
    base = TrainConfig(shape={"size": size}, epochs=epochs, lr=lr)
    table = out or folder / "study.csv"
    with StepProgress(console(), "study") as progress:

        def told(what: str) -> "OnProgress":
            def show(now: "Progress") -> None:
                progress.show(what, now.step, now.steps)

            return show

        rows = list(
            run_study(
                folder,
                table,
                chosen,
                base,
                seeds=seeds,
                inits=given,
                teacher=load_checkpoint(teacher) if teacher else default_checkpoint(),
                device=device_or_usage(device),
                clip=_clip(folder, table.with_suffix("")) if cost else None,
                on_progress=told,
            )
        )
    console().print(study_table(rows))
    say(f"{len(rows)} trainings, {seeds} seed(s) each: wrote {table}")


def _clip(folder: Path, made: Path) -> Path:
    """What costs are measured on: the best encode of a held-out source, at a fixed size."""
    from ladder.ffmpeg import find_ffmpeg
    from vqatool.evaluation.cost import make_clip
    from vqatool.groups import labelled_of

    out = made / "clip.mp4"
    if not out.exists():
        made.mkdir(parents=True, exist_ok=True)
        best = max(labelled_of(folder, None), key=lambda encode: encode.vmaf)
        make_clip(find_ffmpeg(), best.path, out)
    return out
