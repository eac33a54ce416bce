"""The options of a gate, which `score` and `report` share, and the gate that they stand for."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vqatool.cli.options import HereType

if TYPE_CHECKING:  # for annotations alone
    from vqatool.scoring.gates import Gate

C = TypeVar("C", bound=Callable[..., Any])


class CodesType(click.ParamType[tuple[str, ...]]):
    """Verdicts and warnings joined by commas."""

    name = "CODE[,CODE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        from vqatool.scoring.gates import FAIL_ON

        if isinstance(value, tuple):
            return value
        codes = tuple(code.strip() for code in value.split(",") if code.strip())
        unknown = [code for code in codes if code not in FAIL_ON]
        if unknown or not codes:
            self.fail(
                f"{value!r} is not a list of codes such as error,damaged: allowed are "
                f"{', '.join(FAIL_ON)}",
                param,
                ctx,
            )
        return codes


_OPTIONS = (
    click.option("--fail-under", type=click.FloatRange(0, 100),
                 help="Exit with code 3 if any score is below this."),
    click.option("--threshold", "thresholds", metavar="FILE.toml",
                 type=HereType(exists=True, dir_okay=False, path_type=Path),
                 help="The same by height or name, from a file."),
    click.option("--fail-on", type=CodesType(), metavar="CODE[,CODE]", default=(),
                 help="Exit with code 3 if any row has one of these warnings or verdicts; error: "
                 "any file without a score."),
    click.option("--trust", is_flag=True,
                 help="Let scores pass that a warning says not to trust."),
    click.option("--gate-on", type=click.Choice(["score", "score_low", "score_min", "score_p5"]),
                 default="score", show_default=True,
                 help="Column that --fail-under and --threshold compare."),
)  # fmt: skip


def gate_options(command: C) -> C:
    """--fail-under, --threshold, --fail-on, --trust and --gate-on."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def gate_of(
    fail_under: float | None,
    thresholds: Path | None,
    gate_on: str,
    fail_on: tuple[str, ...],
    trusts_all: bool,
) -> "Gate":
    """The gate of these options.

    Raises:
        GateError: the file of thresholds cannot be read.
    """
    from vqatool.scoring.gates import Gate, Thresholds

    limits = Thresholds.read(thresholds, fail_under) if thresholds else Thresholds(fail_under)
    return Gate(limits, gate_on, frozenset(fail_on), trusts_all)
