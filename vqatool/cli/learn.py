"""Stages 3 and 4 on the command line, the model made: train."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqatool.cli.options import MODEL_NAME, device_option, device_or_usage, work_folder
from vqatool.methods import Method

if TYPE_CHECKING:  # for annotations alone
    from vqatool.checkpoint import Checkpoint


@click.command()
@work_folder
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              help=f"Model file to write.  [default: FOLDER/{MODEL_NAME}]")  # fmt: skip
@click.option("--method", type=click.Choice([method.value for method in Method]),
              default=Method.COARSE_TO_FINE.value, show_default=True,
              help="Published method to train.")  # fmt: skip
@click.option("--init", default="default", show_default=True, metavar="default|scratch|FILE",
              help="Start from the packaged weights, from none, or from a file's.")  # fmt: skip
@click.option("--size", type=click.Choice(["nano", "tiny", "small", "base", "pico"]),
              help="Size of SwinV2; needs --init scratch.  [default: nano]")  # fmt: skip
@click.option("--stem", type=click.Choice(["conv", "patch"]),
              help="How pixels become tokens; needs --init scratch.  [default: conv]")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True,
              help="Times every encode is seen.")  # fmt: skip
@click.option("--sources", type=click.IntRange(1), default=4, show_default=True,
              help="Sources in a batch.")  # fmt: skip
@click.option("--rungs", type=click.IntRange(1), default=4, show_default=True,
              help="Bitrate groups in a batch.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(0, min_open=True),
              help="Peak learning rate.  [default: 1e-4, from scratch 5e-4]")  # fmt: skip
@click.option("--group-weight", type=click.FloatRange(0), default=0.1, show_default=True,
              help="Weight of the group contrastive (coarse) loss.")  # fmt: skip
@click.option("--rank-weight", type=click.FloatRange(0), default=1.0, show_default=True,
              help="Weight of the rank (fine) loss.")  # fmt: skip
@click.option("--val-share", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              default=0.25, show_default=True, help="Share of sources held out.")  # fmt: skip
@click.option("--validations", type=click.IntRange(1), default=20, show_default=True,
              help="How often, over the whole training, held-out sources are judged.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@device_option
def train(
    folder: Path,
    out: Path | None,
    method: str,
    init: str,
    size: str | None,
    stem: str | None,
    group_weight: float,
    rank_weight: float,
    device: str,
    **settings: Any,
) -> None:
    """Train a no-reference model on the labels in FOLDER (default: encodes).

    Sources are split into train and val by FOLDER/splits.csv, made if it is missing. Killed and
    started again, it goes on where it was.

    \b
    Example:
        vqatool train encodes --epochs 60 -o model.safetensors
    """
    from vqatool.learner import Progress, TrainConfig
    from vqatool.progress import StepProgress
    from vqatool.recipes import LossWeights
    from vqatool.terminal import console, say
    from vqatool.train import train as learn

    config = TrainConfig(
        method=method,
        shape=_shape(size, stem, init),
        weights=LossWeights(group=group_weight, rank=rank_weight),
        **settings,
    )
    target = out or folder / MODEL_NAME
    with StepProgress(console(), "training") as progress:

        def show(now: Progress) -> None:
            terms = ", ".join(f"{name} {value:.3f}" for name, value in now.terms.items())
            note = terms if now.val_srcc is None else f"{terms}, val SRCC {now.val_srcc:.3f}"
            progress.show("training", now.step, now.steps, note)

        checkpoint = learn(
            folder,
            target,
            config,
            init=_checkpoint_named(init),
            device=device_or_usage(device),
            on_progress=show,
            on_decoded=lambda done, total: progress.show("decoding", done, total),
        )
    found = checkpoint.card.validation
    say(
        f"{target}: SRCC {found['srcc']:.3f}, PLCC {found['plcc']:.3f}, RMSE {found['rmse']:.1f} "
        f"on {found['count']:.0f} encodes of held-out sources; next: vqatool evaluate {folder}"
    )


def _shape(size: str | None, stem: str | None, init: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"size": size} if size else {}
    shape |= {"has_conv_stem": stem == "conv"} if stem else {}
    if shape and init != "scratch":
        raise click.UsageError("--size and --stem choose a new model: add --init scratch")
    return shape


def _checkpoint_named(init: str) -> "Checkpoint | None":
    from vqatool.checkpoint import default_checkpoint, load_checkpoint

    if init == "scratch":
        return None
    return default_checkpoint() if init == "default" else load_checkpoint(Path(init))
