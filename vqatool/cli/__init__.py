"""The command line: parse, call a stage, show what came of it; alone in importing click."""

from typing import Any

import click

from vqatool import __version__
from vqatool.cli.demo import demo
from vqatool.cli.doctor import doctor
from vqatool.cli.evaluate import evaluate
from vqatool.cli.explain import explain
from vqatool.cli.import_weights import import_weights
from vqatool.cli.label import label
from vqatool.cli.ladder import ladder
from vqatool.cli.merge import merge
from vqatool.cli.options import fail
from vqatool.cli.pretrain import pretrain
from vqatool.cli.score import score
from vqatool.cli.study import study
from vqatool.cli.train import train
from vqatool.errors import ExitCode, VqatoolError


class _Program(click.Group):
    """The one place where errors of the stages become messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise  # help and usage: what follows would load PyAV for them
        except KeyboardInterrupt:
            fail("interrupted: run it again to go on", ExitCode.INTERRUPTED)
        except Exception as error:
            from ladder.errors import CapabilityError, LadderError

            if isinstance(error, CapabilityError):
                fail(str(error), ExitCode.NO_CAPABILITY)
            if isinstance(error, LadderError | VqatoolError):
                fail(str(error), ExitCode.USAGE)
            raise


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Bitrate ladders, VMAF labels, and a no-reference model that scores directories of video.

    \b
    vqatool ladder src.mp4           source -> encodes
    vqatool label --vmaf             encodes -> labels
    vqatool train                    labels -> model
    vqatool score dir/ -o report.csv any videos -> scores
    """


for command in (
    ladder,
    label,
    import_weights,
    pretrain,
    train,
    evaluate,
    study,
    score,
    merge,
    explain,
    doctor,
    demo,
):
    cli.add_command(command)
