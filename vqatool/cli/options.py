"""What the commands share: options, their types, and how rows become messages and exit codes."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import click

from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone: torch and PyAV load in the commands
    from vqatool.inference.predictor import Predictor
    from vqatool.scoring.segments import Display

WORK_FOLDER = Path("encodes")
MODEL_NAME = "model.safetensors"

C = TypeVar("C", bound=Callable[..., Any])


def fail(message: str, exit_code: ExitCode) -> NoReturn:
    """Print the reason to stderr and exit with that code."""
    click.echo(f"Error: {message}", err=True)
    raise click.exceptions.Exit(exit_code)


def work_folder(command: C) -> C:
    """FOLDER, the first argument."""
    return click.argument(
        "folder", type=click.Path(file_okay=False, path_type=Path), default=WORK_FOLDER
    )(command)


def ffmpeg_option(command: C) -> C:
    """--ffmpeg, as `ffmpeg_path`."""
    return click.option(
        "--ffmpeg",
        "ffmpeg_path",
        type=click.Path(path_type=Path),
        help="ffmpeg to use. Else $VQATOOL_FFMPEG, PATH if it has libvmaf, the bundled one.",
    )(command)


def jobs_option(command: C) -> C:
    """--jobs; None leaves it to `ladder.ffmpeg.allocate_workers`."""
    return click.option(
        "--jobs",
        type=click.IntRange(1, 256),
        help="Processes or files at work at once.  [default: one for each core, 4 at most]",
    )(command)


def model_option(command: C) -> C:
    """-m, --model."""
    return click.option(
        "-m",
        "--model",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Model file to use.",
    )(command)


def size_option(default: str | None, help: str) -> Callable[[C], C]:
    """--size of the model; which there are is the method's."""
    return click.option(
        "--size", metavar="NAME", default=default, show_default=default is not None, help=help
    )


def shape_option(command: C) -> C:
    """--shape, as a dict."""
    return click.option(
        "--shape",
        multiple=True,
        type=ShapeType(),
        callback=lambda ctx, param, pairs: dict(pairs),
        help="What else makes a new model, such as window=4; the README has the names. May be "
        "repeated.",
    )(command)


class ShapeType(click.ParamType[tuple[str, Any]]):
    """NAME=VALUE, the value as JSON has it, or else a text."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not (name and equals):
            self.fail(f"{value!r} is not NAME=VALUE, such as window=4", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


def require_shape(method: str, shape: Mapping[str, Any], tune: str = "all") -> None:
    """A usage error, with the reason, unless the method's model can be so shaped and tuned."""
    from vqatool.methods import Method, recipe_for

    try:
        recipe = recipe_for(Method(method), shape)
        if tune != "all":
            recipe.build().freeze_except(tune)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"--method {method}: {error}") from error


def device_option(command: C) -> C:
    """--device."""
    return click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda, mps, or torch's name."
    )(command)


class DisplayType(click.ParamType["Display"]):
    """A screen such as 1920x1080, or `native` (None)."""

    name = "WxH|native"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Display":
        if value is None or isinstance(value, tuple) or value == "native":
            return value if isinstance(value, tuple) else None
        found = re.fullmatch(r"(\d{2,5})x(\d{2,5})", value)
        if not found or min(int(found[1]), int(found[2])) < 16:
            self.fail(f"{value!r} is not a size such as 1920x1080, nor native", param, ctx)
        return int(found[1]), int(found[2])


def display_option(command: C) -> C:
    """--display."""
    return click.option(
        "--display",
        type=DisplayType(),
        default="1920x1080",
        show_default=True,
        help="Screen the videos are judged on; native is pixel for pixel.",
    )(command)


class ParsedType(click.ParamType[Any]):
    """Text that a function makes into a value; its ValueError is a usage error."""

    def __init__(self, name: str, function: str) -> None:
        self.name, self._function = name, function

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from ladder.media import time_ranges as pieces

        try:
            return getattr(pieces, self._function)(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def predictor_for(
    model: Path | None, device: str, *, pixels_only: bool = False, batch: int | None = None
) -> "Predictor":
    """The model of that file (None: the packaged one) on a device."""
    from vqatool.inference.model_file import UNTRAINED, default_checkpoint, load_checkpoint
    from vqatool.inference.predictor import Predictor

    checkpoint = load_checkpoint(model) if model else default_checkpoint()
    if checkpoint.card.label == UNTRAINED:
        method = checkpoint.card.method
        raise click.UsageError(
            f"{model} has not learned any scores: vqatool train --method {method} --init {model}"
        )
    return Predictor(checkpoint, device_or_usage(device), pixels_only=pixels_only, batch=batch)


def device_or_usage(name: str) -> str:
    """torch's name of the device; a wrong one is a usage error."""
    from vqatool.inference.device import device_named

    try:
        return str(device_named(name))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


class Outcome(Protocol):
    """A row of any stage."""

    @property
    def key(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def error(self) -> str: ...


def count_rows(rows: Sequence[Outcome]) -> str:
    """How many are good, and how many failed."""
    failed = sum(row.status == "error" for row in rows)
    good = len(rows) - failed
    return f"{good} good" + (f", {failed} failed" if failed else "")


def join_paths(paths: Iterable[Path]) -> str:
    """Paths, for a sentence."""
    return ", ".join(map(str, paths))


def name_failures(rows: Iterable[Outcome]) -> bool:
    """Name each failure with its reason; whether there is any."""
    from vqatool.terminal import print_message

    failed = [row for row in rows if row.status == "error"]
    for row in failed:
        print_message(f"failed: {row.key}: {row.error}")
    return bool(failed)


def exit_on_failures(rows: Iterable[Outcome]) -> None:
    """Name each failure and end with the exit code for them; return if there is none."""
    if name_failures(rows):
        raise click.exceptions.Exit(ExitCode.SOME_FAILED)
