"""The command line: parse arguments, call a stage, show the outcome; only here is click used."""

import errno
import functools
import logging
import os
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click

from vqatool import __version__
from vqatool.cli.bdrate import bdrate
from vqatool.cli.compare import compare
from vqatool.cli.completion import completion
from vqatool.cli.config import (
    config,
    config_file,
    name_variables,
    read_defaults,
    unknown_variables,
)
from vqatool.cli.demo import demo
from vqatool.cli.doctor import doctor
from vqatool.cli.evaluate import evaluate
from vqatool.cli.explain import explain
from vqatool.cli.export import export
from vqatool.cli.import_weights import import_weights
from vqatool.cli.label import label
from vqatool.cli.ladder import ladder
from vqatool.cli.merge import merge
from vqatool.cli.options import exit_code_of, fail, verbosity_options
from vqatool.cli.pretrain import pretrain
from vqatool.cli.recommend import recommend
from vqatool.cli.report import report
from vqatool.cli.score import score
from vqatool.cli.study import study
from vqatool.cli.train import train
from vqatool.cli.watch import watch
from vqatool.errors import ExitCode
from vqatool.terminal import is_json

_log = logging.getLogger(__name__)

_WRITE_AT_THE_END = {
    "bdrate",
    "compare",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "merge",
    "report",
}
"""Commands that an interrupt leaves without anything to go on from."""

_EXTRAS = {
    "torch": "train",
    "timm": "train",
    "accelerate": "train",
    "safetensors": "train",
    "scipy": "train",
    "matplotlib": "train",
    "onnx_ir": "train",
    "onnxscript": "train",
    "pandas": "parquet",
    "ray": "cluster",
    "grpc": "cluster",
}
"""The extra that installs a package which the light install lacks."""


class _Program(click.Group):
    """The one place where errors become messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of the pipeline, not of the alphabet

    def invoke(self, ctx: click.Context) -> Any:
        try:
            ctx.default_map = self._defaults()
            return super().invoke(ctx)
        except click.ClickException as error:
            _tell_as_json(error)
            raise  # click prints help and usage errors
        except (click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            raise  # click ends in silence: nobody reads the output any more
        except KeyboardInterrupt:
            again = (
                "nothing is kept, and the same command begins anew"
                if ctx.invoked_subcommand in _WRITE_AT_THE_END
                else "run the same command again to continue"
            )
            fail(f"interrupted: {again}", ExitCode.INTERRUPTED)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            fail(
                f"{ctx.invoked_subcommand} needs {error.name}: pip install 'vqatool[{extra}]'",
                ExitCode.NO_CAPABILITY,
            )
        except Exception as error:  # noqa: BLE001 - what is caught nowhere else ends here
            _fail_by(error)

    def _defaults(self) -> dict[str, Any]:
        path = config_file()
        if path is None:
            return {}
        _log.info("defaults of options come from %s", path)
        return read_defaults(path, self.commands)


def _tell_as_json(error: click.ClickException) -> None:
    """Print a usage error as a line of JSON and exit, if lines of JSON are asked for."""
    if is_json() and not isinstance(error, click.exceptions.NoArgsIsHelpError):
        fail(error.format_message(), ExitCode(error.exit_code))


def _fail_by(error: Exception) -> NoReturn:
    """Print the reason of an error, with the traceback of a bug, and exit."""
    code = exit_code_of(error)
    if code is not ExitCode.BUG:
        _log.debug("traceback of the error below", exc_info=True)
        fail(_path_message(error) if isinstance(error, OSError) else str(error), code)
    if is_json():
        _log.error("an error that was not expected", exc_info=True)
    else:
        traceback.print_exc()
    fail(
        "this is a bug in vqatool: please report it with the lines above and the output of "
        "`vqatool doctor`",
        code,
    )


def _path_message(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.filename is None:
        return f"an output file cannot be written: {reason}"
    path = Path(os.fsdecode(error.filename))
    if not path.exists() and error.errno == errno.ENOENT:
        verb = "read or written"  # a missing input, or an output that its folder refuses
    elif path.exists() and not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        verb = "read"
    else:
        verb = "written"
    return f"{path} cannot be {verb}: {reason}"


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@verbosity_options
def cli() -> None:
    """Bitrate ladders, VMAF labels, and a no-reference model that scores directories of video.

    \b
    vqatool ladder src.mp4           source -> encodes
    vqatool label                    encodes -> labels
    vqatool train                    labels -> model
    vqatool score dir/ -o report.csv any videos -> scores
    """


def _warn_first(command: click.Command) -> None:
    """Let a command begin with a warning of each misspelt variable."""
    work = command.callback
    assert work is not None

    @functools.wraps(work)
    def warned(*args: Any, **options: Any) -> Any:
        from vqatool.terminal import print_note

        # one command may call another
        if not click.get_current_context().meta.setdefault(__name__, False):
            click.get_current_context().meta[__name__] = True
            for text in unknown_variables(cli.commands):
                print_note(f"warning: {text}")
        return work(*args, **options)

    command.callback = warned


for command in (
    ladder,
    label,
    recommend,
    bdrate,
    train,
    evaluate,
    score,
    watch,
    compare,
    report,
    merge,
    explain,
    study,
    pretrain,
    import_weights,
    export,
    doctor,
    demo,
    config,
    completion,
):
    name_variables(command)
    _warn_first(command)
    verbosity_options(command)
    cli.add_command(command)
