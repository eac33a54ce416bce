"""What the commands share: options, their types, and how rows become messages and exit codes."""

import contextlib
import errno
import json
import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import click
from click.shell_completion import CompletionItem

from vqatool.errors import ExitCode, NoVideoError, VqatoolError

if TYPE_CHECKING:  # for annotations alone: torch and PyAV load in the commands
    from ladder.storage import Row, Table
    from vqatool.inference.predictor import Predictor

WORK_FOLDER = Path("encodes")
MODEL_NAME = "model.safetensors"

C = TypeVar("C", bound=Callable[..., Any])
R = TypeVar("R", bound="Row")

_log = logging.getLogger(__name__)


def fail(message: str, exit_code: ExitCode) -> NoReturn:
    """Print the reason to stderr and exit with that code."""
    from vqatool.terminal import is_json, print_message

    if is_json():
        print_message(message)
    else:
        click.echo(f"Error: {message}", err=True)
    raise click.exceptions.Exit(exit_code)


_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def exit_code_of(error: BaseException | None) -> ExitCode:
    """How the program exits where a command ends with this error; None: without one."""
    from ladder.errors import CapabilityError, LadderError

    if error is None:
        return ExitCode.DONE
    if isinstance(error, click.exceptions.Exit | click.ClickException):
        return ExitCode(error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, CapabilityError | ModuleNotFoundError):
        return ExitCode.NO_CAPABILITY
    if isinstance(error, NoVideoError):
        return ExitCode.NO_VIDEO
    if isinstance(error, LadderError | VqatoolError):
        return ExitCode.USAGE
    if isinstance(error, OSError) and (error.filename or error.errno in _DISK_ERRORS):
        return ExitCode.USAGE
    return ExitCode.BUG


def verbosity_options(command: C) -> C:
    """-v, -vv, -q, --log and --log-json; the group and its commands add up what they get."""
    quiet = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=lambda ctx, param, is_set: _add_verbosity(ctx, -int(is_set)),
        help="Print results on stdout, and on stderr errors and failures only.",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        is_eager=True,
        callback=lambda ctx, param, count: _add_verbosity(ctx, count),
        help="Print what was chosen and why (ffmpeg, device, kernel); -vv: each command that runs.",
    )
    log = click.option(
        "--log",
        type=HereType(dir_okay=False, path_type=Path),
        metavar="FILE",
        expose_value=False,
        callback=lambda ctx, param, path: _log_to(ctx, path),
        help="Append what -vv prints to this file, with times.",
    )
    as_json = click.option(
        "--log-json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=lambda ctx, param, is_set: _log_as_json(ctx, is_set),
        help="Write what goes to stderr, and --log, as lines of JSON: time, level, message, file.",
    )
    return verbose(quiet(log(as_json(command))))


def _log_as_json(ctx: click.Context, is_set: bool) -> None:
    from vqatool.terminal import is_json, json_lines

    if is_set and not is_json():
        ctx.find_root().with_resource(json_lines())


def _log_to(ctx: click.Context, path: Path | None) -> None:
    from vqatool.terminal import log_to

    if path:
        # until the program ends, so that it has the error that ends a command
        ctx.find_root().with_resource(log_to(path))
        _log_versions()


def _add_verbosity(ctx: click.Context, change: int) -> None:
    from vqatool.terminal import set_verbosity

    verbosity = ctx.meta.get(__name__, 0) + change
    ctx.meta[__name__] = verbosity  # click shares `meta` between the group and the command
    set_verbosity(verbosity)
    if change and verbosity > 1:
        _log_versions()


def _log_versions() -> None:
    import importlib.metadata

    versions = [f"python {platform.python_version()}", platform.platform()]
    for name in ("vqatool", "av", "onnxruntime", "torch", "timm", "accelerate"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} is not installed")
    _log.debug("versions: %s", ", ".join(versions))


def work_folder(command: C) -> C:
    """FOLDER, the first argument."""
    return click.argument(
        "folder", type=HereType(file_okay=False, path_type=Path), default=WORK_FOLDER
    )(command)


def ffmpeg_option(command: C) -> C:
    """--ffmpeg, as `ffmpeg_path`."""
    return click.option(
        "--ffmpeg",
        "ffmpeg_path",
        type=HereType(path_type=Path),
        help="ffmpeg to use.  [default: $VQATOOL_FFMPEG, else the one on PATH if it has libvmaf, "
        "else the bundled one]",
    )(command)


def jobs_option(command: C) -> C:
    """--jobs; None: `allocate_workers` of `ladder.media.ffmpeg`, or `DecodePool`, chooses."""
    return click.option(
        "--jobs",
        type=click.IntRange(1, 256),
        help="Number of processes.  [default: one for each core, at most 4 of ffmpeg]",
    )(command)


class FileType(click.Path):
    """A file here or, by its URL, elsewhere; of a report, a folder that ends in a slash."""

    def __init__(
        self, *, exists: bool = False, allow_dash: bool = False, is_report: bool = True
    ) -> None:
        super().__init__(exists=exists, dir_okay=False, allow_dash=allow_dash, path_type=Path)
        self._is_report = is_report

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        is_folder = self._is_report and isinstance(value, str) and value.endswith("/")
        if not is_folder and "://" not in str(value):
            return super().convert(value, param, ctx)  # most are, and load nothing for it
        from vqatool.scoring.formats import report_path

        path = report_path(value)
        if self.exists and not path.exists():
            self.fail(f"{path} does not exist", param, ctx)
        return path


class SourceType(click.Path):
    """A file or a folder that exists here, or a URL."""

    def __init__(self) -> None:
        super().__init__(exists=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or "://" not in value:
            return super().convert(value, param, ctx)
        from ladder.media.remote import as_path

        return as_path(value)


class HereType(click.Path):
    """A file or a folder that must be here: what is read, if it `exists`, or else written."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            cannot = "be read here: copy it first, and" if self.exists else "be written to:"
            self.fail(f"{value.partition('://')[0]}:// cannot {cannot} name a place here",
                      param, ctx)  # fmt: skip
        return super().convert(value, param, ctx)


DEFAULT_MODEL = "default"
"""The name of the packaged model."""


class ModelType(HereType):
    """A model file, or `default` (None) for the packaged one."""

    name = "default|FILE"

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == DEFAULT_MODEL else super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        files = super().shell_complete(ctx, param, incomplete)
        return [CompletionItem(DEFAULT_MODEL)] * DEFAULT_MODEL.startswith(incomplete) + files


def model_option(command: C) -> C:
    """-m, --model."""
    return click.option(
        "-m",
        "--model",
        type=ModelType(),
        default=DEFAULT_MODEL,
        show_default=True,
        help="Model file to use, .onnx or .safetensors; default: the packaged model.",
    )(command)


def is_given(name: str) -> bool:
    """Whether the running command has this parameter from anywhere but the option's default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def is_on_command_line(name: str) -> bool:
    """Whether the command line of the running command has this parameter."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def size_option(default: str | None, help: str) -> Callable[[C], C]:
    """--size of the model; each method has its own sizes."""
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
        help="Setting of a new model's shape, such as window=4; the documentation lists the "
        "names. Repeatable.",
    )(command)


class ShapeType(click.ParamType[tuple[str, Any]]):
    """NAME=VALUE; the value is JSON, or else text."""

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
    """A usage error with the reason unless the method has such a shape and part to tune."""
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
        "--device",
        default="auto",
        show_default=True,
        help="cpu, cuda, mps or another device of torch; auto: a GPU where there is one and torch "
        "is installed, else cpu.",
    )(command)


def name_filter_options(command: C) -> C:
    """--include and --exclude."""
    include = click.option(
        "--include",
        multiple=True,
        metavar="GLOB",
        help="Score only files whose name matches. Repeatable.",
    )
    exclude = click.option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Skip files whose name matches. Repeatable.",
    )
    return include(exclude(command))


def segment_option(command: C) -> C:
    """--segment, as `segment_s`."""
    return click.option(
        "--segment",
        "segment_s",
        type=click.FloatRange(0.5),
        default=2.5,
        show_default=True,
        help="Length of a segment, in seconds.",
    )(command)


def sample_option(command: C) -> C:
    """--sample."""
    return click.option(
        "--sample",
        type=click.IntRange(1),
        metavar="N",
        help="Score N segments of each video, evenly spread, and not all.",
    )(command)


def skim_option(command: C) -> C:
    """--skim, as `skims`."""
    return click.option(
        "--skim/--no-skim",
        "skims",
        default=None,
        help="Decode some segments only, and judge those after them in a shot by their packets and "
        "these pixels: half the time.  [default: in videos of ten minutes or more]",
    )(command)


def timeout_option(command: C) -> C:
    """--timeout, as `timeout_s`."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(1),
        default=120.0,
        show_default=True,
        help="Seconds that decoding 8 segments may take before a file fails.",
    )(command)


def display_option(command: C) -> C:
    """--display."""
    return click.option(
        "--display",
        type=ParsedType("WxH|native", "parse_display", "vqatool.scoring.segments"),
        default="1920x1080",
        show_default=True,
        help="Size of the screen the videos are shown on; native: pixel for pixel.",
    )(command)


def tonemap_option(help: str) -> Callable[[C], C]:
    """--tonemap."""
    return click.option("--tonemap", is_flag=True, help=help)


class ParsedType(click.ParamType[Any]):
    """Text that a function of `module` parses; its ValueError is a usage error."""

    def __init__(self, name: str, function: str, module: str = "ladder.media.time_ranges") -> None:
        self.name, self._function, self._module = name, function, module

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return getattr(import_module(self._module), self._function)(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def predictor_for(
    model: Path | None, device: str, *, pixels_only: bool = False, batch: int | None = None
) -> "Predictor":
    """The model of a file (None: the packaged one) on a device.

    An untrained model and an unknown device are usage errors.
    """
    from vqatool.inference.card import UNTRAINED
    from vqatool.inference.loading import load_predictor

    try:
        predictor = load_predictor(model, device, pixels_only=pixels_only, batch=batch)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if predictor.card.label == UNTRAINED:
        method = predictor.card.method
        raise click.UsageError(
            f"{model} is not trained on scores yet: vqatool train --method {method} --init {model}"
        )
    return predictor


def device_or_usage(name: str) -> str:
    """torch's name of the device; an unknown device is a usage error."""
    from vqatool.inference.device import device_named

    try:
        return str(device_named(name))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


STDOUT = Path("-")
"""The name that stands for stdout after -o."""


def stdout_writer(form: str, table: "Table[R]") -> "Callable[[R], None]":
    """Writes a row of the table to stdout at once, as `json` lines or as `csv`; "": nowhere."""
    from vqatool.scoring.formats import json_line

    def write(row: "R") -> None:
        text = f"{json_line(row)}\n" if form == "json" else table.line(row)
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)

    if form == "csv":
        click.echo(table.header, nl=False)
    return write if form else lambda row: None


class Outcome(Protocol):
    """A row of any stage."""

    @property
    def key(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def error(self) -> str: ...


def count_rows(rows: Sequence[Outcome], done: str) -> str:
    """Such as `9 scored, 1 failed`, where `done` is `scored`."""
    return counts_text(Counter(row.status for row in rows), done)


def counts_text(counts: Mapping[str, int], done: str) -> str:
    """The same of the number of rows with each status."""
    failed = counts.get("error", 0)
    return f"{sum(counts.values()) - failed} {done}" + (f", {failed} failed" if failed else "")


def join_paths(paths: Iterable[Path]) -> str:
    """Paths joined by commas."""
    return ", ".join(map(str, paths))


@contextlib.contextmanager
def or_told(path: Path, unwritten: list[str]) -> Iterator[None]:
    """Turns the reason why a file cannot be written into a line for the end of the run."""
    from ladder.errors import LadderError, OutputError

    try:
        yield
    except OSError as error:
        unwritten.append(str(OutputError.of(path, error)))
    except (LadderError, VqatoolError) as error:
        unwritten.append(str(error))


_MOST_FAILURES = 20

_IS_REMEDY = ("--", "(ffmpeg", "convert it", "copy it", "but not on worker")


def name_failures(rows: Iterable[Outcome]) -> bool:
    """Print each failed row with its reason; returns whether there is any."""
    from vqatool.terminal import print_message

    failed = [row for row in rows if row.status == "error"]
    for row in failed[:_MOST_FAILURES]:
        # many reasons name the file already
        is_named = row.error.startswith(row.key)
        reason = row.error if is_named else f"{row.key}: {row.error}"
        print_message(f"failed: {reason}{_remedy(row)}", file=row.key)
    if len(failed) > _MOST_FAILURES:
        print_message(f"failed: {len(failed) - _MOST_FAILURES} more, whose rows have the reason")
    return bool(failed)


def _remedy(row: Outcome) -> str:
    """What to do next with a file that has no score, unless its reason says so."""
    from vqatool.reporting.advice import ERRORS

    advice = ERRORS.get(getattr(row, "error_code", ""))
    if not (advice and advice.next_step) or any(word in row.error for word in _IS_REMEDY):
        return ""
    return f" ({advice.next_step.replace('`', '')})"


def name_unreadable(folders: Iterable[Path]) -> bool:
    """Print each folder that cannot be listed; returns whether there is any."""
    from vqatool.terminal import print_message

    names = [str(folder) for folder in folders]
    for name in names:
        print_message(f"failed: {name}: the folder cannot be read", file=name)
    return bool(names)


def exit_on_failures(rows: Iterable[Outcome], unreadable: Iterable[Path] = ()) -> None:
    """Print each failed row and unreadable folder; exit with `SOME_FAILED` if there is any."""
    has_failures = name_unreadable(unreadable)
    if name_failures(rows) or has_failures:
        raise click.exceptions.Exit(ExitCode.SOME_FAILED)
