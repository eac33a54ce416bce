"""`vqatool study`: many small trainings -> a table that compares methods or variants of one."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    HereType,
    device_option,
    device_or_usage,
    require_shape,
    size_option,
    work_folder,
)

if TYPE_CHECKING:  # for annotations alone
    from vqatool.inference.model_file import Checkpoint
    from vqatool.training.step import OnProgress
    from vqatool.training.step import Progress as StepDone

STUDY_NAMES = (
    "terms", "contrast", "weights", "temporal", "window", "view", "input", "methods", "masks",
    "teacher", "tune",
)  # fmt: skip


@click.command()
@work_folder
@click.option("--of", "studies", multiple=True, type=click.Choice(STUDY_NAMES),
              metavar="NAME",
              help=f"Comparison to run: {', '.join(STUDY_NAMES)}. Repeatable.  [default: all but "
              "tune]")  # fmt: skip
@click.option("-o", "--out", type=HereType(dir_okay=False, path_type=Path),
              help="Table to write.  [default: FOLDER/study.csv]")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True,
              help="Trainings of each variant.")  # fmt: skip
@size_option(None, "Size of new models, from scratch.  [default: pico]")
@click.option("--epochs", type=click.IntRange(1), default=6, show_default=True,
              help="Passes over the encodes.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True,
              help="Peak learning rate.")  # fmt: skip
@click.option(
    "--init",
    "inits",
    multiple=True,
    type=HereType(exists=True, dir_okay=False, path_type=Path),
    help="Model file to start from, one for each method; temporal and input always start "
    "from scratch. Repeatable.  [default: from scratch; --of tune needs q-mamba]",
)
@click.option("--teacher", type=HereType(exists=True, dir_okay=False, path_type=Path),
              help="Teacher of --of teacher.  [default: the packaged model]")  # fmt: skip
@click.option("--cost", is_flag=True,
              help="Also measure parameters, operations, time and memory.")  # fmt: skip
@device_option
def study(
    folder: Path,
    studies: tuple[str, ...],
    out: Path | None,
    seeds: int,
    size: str | None,
    epochs: int,
    lr: float,
    inits: tuple[Path, ...],
    teacher: Path | None,
    cost: bool,
    device: str,
) -> None:
    """Compare methods or variants at the same budget.

    Every variant is trained on the labels in FOLDER (default: encodes) with several seeds and
    evaluated on held-out sources. A killed study continues when the command is run again.

    \b
    Example:
        vqatool study encodes --of terms --of window
        vqatool study encodes --of methods --cost
        vqatool study encodes --of masks --init sama.safetensors
    """
    from vqatool.cli.progress import Progress
    from vqatool.cli.tables import study_table
    from vqatool.evaluation.study import run_study
    from vqatool.evaluation.variants import NEEDS_WEIGHTS, trials
    from vqatool.files import require_writable
    from vqatool.inference.model_file import default_checkpoint, load_checkpoint
    from vqatool.terminal import console, print_note
    from vqatool.training.trainer import TrainConfig

    chosen = studies or tuple(name for name in STUDY_NAMES if name not in NEEDS_WEIGHTS)
    compared = trials(
        chosen,
        _by_method(inits, chosen),
        load_checkpoint(teacher) if teacher else default_checkpoint(),
    )
    if size and all(trial.initialization.init for trial in compared):
        raise click.UsageError(
            "--size is for new models: the weights of --init have a size already"
        )
    base = TrainConfig(shape={"size": size or "pico"}, epochs=epochs, lr=lr)
    for trial in compared:
        config = trial.config(base, 0)
        require_shape(config.method, config.shape_with(trial.initialization.init), config.tune)
    table = out or folder / "study.csv"
    require_writable([table])
    with Progress("study") as progress:

        def message(what: str) -> "OnProgress":
            def show(now: "StepDone") -> None:
                progress.show(what, now.step, now.steps)

            return show

        rows = run_study(
            folder,
            table,
            compared,
            base,
            seeds=seeds,
            device=device_or_usage(device),
            has_cost=cost,
            on_progress=message,
        )
    console(is_result=True).print(study_table(rows))
    print_note(f"{len(rows)} trainings, {seeds} seed(s) each: wrote {table}")


def _by_method(inits: tuple[Path, ...], studies: tuple[str, ...]) -> "dict[str, Checkpoint]":
    """The models of those files by method; a usage error unless each is of another method."""
    from vqatool.evaluation.variants import FROM_SCRATCH, STUDIES
    from vqatool.inference.model_file import load_checkpoint

    compared = {
        variant.method.value
        for study in studies
        if study not in FROM_SCRATCH
        for variant in STUDIES[study]
    }
    given: dict[str, Checkpoint] = {}
    for path in inits:
        init = load_checkpoint(path)
        method = init.card.method
        if method not in compared:
            raise click.UsageError(f"--init {path} is of {method}, which this study does not train")
        if method in given:
            raise click.UsageError(
                f"--init {path} is a second file of {method}: give one for each method"
            )
        given[method] = init
    return given
