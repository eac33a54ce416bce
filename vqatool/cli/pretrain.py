"""`vqatool pretrain`: rated or distorted pictures -> a model file to start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqatool.cli.options import (
    HereType,
    device_option,
    device_or_usage,
    require_shape,
    shape_option,
    size_option,
)
from vqatool.methods import Method

if TYPE_CHECKING:  # for annotations alone
    from vqatool.cli.progress import Progress
    from vqatool.pretraining.picture_sets import PictureSet


_OLD_SYNTHETIC = "made"  # the name in version 0.1


class DataType(click.ParamType[tuple[str, Path]]):
    """NAME=FOLDER."""

    name = "NAME=FOLDER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        name, equals, folder = value.partition("=")
        if not (name and equals and folder):
            self.fail(f"{value!r} is not NAME=FOLDER, such as koniq=sets/koniq10k", param, ctx)
        if not Path(folder).exists():
            self.fail(f"{folder} does not exist", param, ctx)
        if name == _OLD_SYNTHETIC:
            click.echo(
                f"Warning: --data {name}= is called synthetic= now, and the old name will go: "
                f"write --data synthetic={folder}",
                err=True,
            )
            name = "synthetic"
        return name, Path(folder)


@click.command()
@click.option(
    "--data",
    "sets",
    multiple=True,
    required=True,
    type=DataType(),
    help="clive, live, koniq, kadid: the published dataset; synthetic: a folder of clean "
    "pictures or videos to distort; any other name: a CSV of path,mos. Repeatable.",
)
@click.option("-o", "--out", type=HereType(dir_okay=False, path_type=Path),
              default=Path("spatial.safetensors"), show_default=True,
              help="Model file to write.")  # fmt: skip
@click.option("--init", type=HereType(exists=True, dir_okay=False, path_type=Path),
              help="Model file to start from.  [default: from scratch]")  # fmt: skip
@click.option("--method", type=click.Choice([method.value for method in Method]),
              default=Method.COARSE_TO_FINE.value, show_default=True,
              help="Published method whose model is trained.")  # fmt: skip
@size_option(None, "Size of a new model, from scratch.  [default: nano]")
@shape_option
@click.option("--steps", type=click.IntRange(1), default=3000, show_default=True,
              help="Number of training steps.")  # fmt: skip
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True,
              help="Pictures in a batch, over all sets.")  # fmt: skip
@click.option("--max-hours", type=click.FloatRange(0, min_open=True),
              help="Stop after this time, whatever the steps.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(0, min_open=True),
              help="Peak learning rate.  [default: 5e-4, with --init 1e-4]")  # fmt: skip
@click.option("--test-share", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              default=0.2, show_default=True,
              help="Share of contents held out of a set without a split.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@device_option
def pretrain(
    sets: tuple[tuple[str, Path], ...],
    out: Path,
    init: Path | None,
    method: str,
    size: str | None,
    shape: dict[str, Any],
    test_share: float,
    seed: int,
    device: str,
    **settings: Any,
) -> None:
    """Train on pictures, before training on videos.

    The spatial module learns from rated pictures and from pictures distorted here; each set keeps
    its own scale. The result is a model file for `vqatool train --init`.

    \b
    Example:
        vqatool pretrain --data synthetic=stills/ --data koniq=koniq10k/ \\
            -o spatial.safetensors
        vqatool train --init spatial.safetensors
    """
    from vqatool.cli.progress import Progress
    from vqatool.files import require_own_files
    from vqatool.inference.model_file import load_checkpoint, save_checkpoint
    from vqatool.pretraining.run import PretrainConfig
    from vqatool.pretraining.run import pretrain as learn
    from vqatool.terminal import print_note
    from vqatool.training.initialization import Initialization
    from vqatool.training.step import Progress as StepDone

    require_own_files(models=[out])
    start, where = (load_checkpoint(init) if init else None), device_or_usage(device)
    shape = _shape(shape | ({"size": size} if size else {}), init)
    Initialization(init=start).require_method(method)
    require_shape(method, shape)
    config = PretrainConfig(method=method, shape=shape, seed=seed, **settings)
    with Progress("pre-training") as progress:

        def show(now: StepDone) -> None:
            message = [f"{name} {value:.3f}" for name, value in now.terms.items()]
            message += [f"{name} SRCC {value:.3f}" for name, value in now.metrics.items()]
            progress.show("pre-training", now.step, now.steps, ", ".join(message))

        pictures = [_read(name, folder, test_share, seed, progress) for name, folder in sets]
        checkpoint = learn(pictures, config, init=start, device=where, on_progress=show)
    save_checkpoint(checkpoint, out)
    found = checkpoint.card.training["test_srcc"]
    message = ", ".join(f"{name} {srcc:.3f}" for name, srcc in found.items())
    print_note(
        f"{out}: SRCC on held-out pictures: {message}; next: vqatool train --method {method} "
        f"--init {out}"
    )


def _shape(asked: dict[str, Any], init: Path | None) -> dict[str, Any]:
    if asked and init:
        raise click.UsageError("--size and --shape are for new models: leave out --init")
    return asked


def _read(
    name: str, folder: Path, test_share: float, seed: int, progress: "Progress"
) -> "PictureSet":
    from vqatool.pretraining.picture_sets import (
        SYNTHETIC,
        SyntheticConfig,
        rated_set,
        synthetic_set,
    )
    from vqatool.pretraining.run import TILE_PX

    if name != SYNTHETIC:
        return rated_set(name, folder, test_share=test_share, seed=seed)
    return synthetic_set(
        folder,
        SyntheticConfig(tile_px=TILE_PX, seed=seed),
        test_share=test_share,
        on_distorted=lambda done, total: progress.show("distorting", done, total),
    )
