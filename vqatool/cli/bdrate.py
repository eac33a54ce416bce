"""`vqatool bdrate`: two tables of rate and quality -> how much bitrate B saves against A."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import HereType
from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone: these modules load PyAV
    from collections.abc import Mapping

    from ladder.recommend.bdrate import Comparison, Delta
    from ladder.recommend.curves import Method

_FEW_SOURCES = 5  # an interval over fewer is too narrow more often than not


class ConditionType(click.ParamType[tuple[str, str]]):
    """COLUMN=TEXT."""

    name = "COLUMN=TEXT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        column, equals, text = str(value).partition("=")
        if not (column and equals):
            self.fail(f"{value!r} is not COLUMN=TEXT, such as codec=libx265", param, ctx)
        return column, text


_TABLE = HereType(exists=True, path_type=Path)


@click.command()
@click.argument("a", type=_TABLE)
@click.argument("b", type=_TABLE)
@click.option("--rate", default="bitrate_kbps", show_default=True, metavar="COLUMN",
              help="Column of the bitrate.")  # fmt: skip
@click.option("--quality", default="vmaf", show_default=True, metavar="COLUMN",
              help="Column of the quality, higher is better.")  # fmt: skip
@click.option("--source", default="source", show_default=True, metavar="COLUMN",
              help="Column of the source; a table without it has one source.")  # fmt: skip
@click.option("--only-a", "only_a", multiple=True, type=ConditionType(),
              help="Rows of A to take, such as codec=libx264. Repeatable.")  # fmt: skip
@click.option("--only-b", "only_b", multiple=True, type=ConditionType(),
              help="Rows of B to take. Repeatable.")  # fmt: skip
@click.option("--log-vmaf", is_flag=True,
              help="BD-rate over -log10(1 - VMAF/100) instead of VMAF: the top of the scale "
              "counts more.")  # fmt: skip
@click.option("--min-overlap", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Share of the range of both together that A and B must both cover.")  # fmt: skip
@click.option("-o", "--out", type=HereType(dir_okay=False, path_type=Path),
              help="JSON file to write, with the values of every source.")  # fmt: skip
def bdrate(
    a: Path,
    b: Path,
    rate: str,
    quality: str,
    source: str,
    only_a: tuple[tuple[str, str], ...],
    only_b: tuple[tuple[str, str], ...],
    log_vmaf: bool,
    min_overlap: float,
    out: Path | None,
) -> None:
    """Compare the rate-quality points of B with those of A.

    A and B are work folders with labels, CSV files or JSON files (a list of objects). BD-rate is
    how much more bitrate B needs for the same quality, in percent (negative: less); BD-quality how
    much better B is at the same bitrate. A difference that is not larger than the width of its
    95 % interval is no verdict.

    \b
    Example:
        vqatool bdrate made made --only-a codec=libx264 --only-b codec=libx265
        vqatool bdrate old.csv new.csv --rate kbps --quality psnr
    """
    from ladder.recommend.bdrate import DeltaOptions, compare
    from ladder.recommend.points import Columns, read_points
    from vqatool.cli.tables import delta_table
    from vqatool.files import require_own_texts
    from vqatool.terminal import console, print_message, print_note

    require_own_texts([out] if out else [])
    anchor = read_points(a, Columns(rate, quality, source, dict(only_a)))
    test = read_points(b, Columns(rate, quality, source, dict(only_b)))
    found = compare(anchor, test, DeltaOptions(log_vmaf, min_overlap))
    console(is_result=True).print(delta_table(found, quality))
    click.echo(verdict(found))
    _print_notes(found)
    if out:
        _write(found, out)
        print_note(f"wrote {out}")
    for reason in found.failed.values():
        print_message(f"left out: {reason}")
    if found.failed:
        raise click.exceptions.Exit(ExitCode.SOME_FAILED)


_EQUAL = 1e-6  # %; no two encoders are so alike, but errors of rounding are smaller


def verdict(found: "Comparison") -> str:
    """What BD-rate says, in one sentence; that it says nothing, where the interval is too wide."""
    values = [delta.value for delta in found.rate.values()]
    spread = [end for delta in found.rate.values() for end in delta.interval]
    if all(abs(value) < _EQUAL for value in [*values, *spread]):
        return "A and B are equal: both need the same bitrate for the same quality"
    least = min(values, key=abs)
    if not found.is_verdict:
        return (
            "no verdict: the difference is not larger than the width of its interval, or the two "
            "interpolations disagree"
        )
    direction = "less" if least < 0 else "more"
    return f"B needs {abs(least):.1f} % {direction} bitrate than A for the same quality"


def _print_notes(found: "Comparison") -> None:
    """What the intervals are drawn over, and which points are not on the curves."""
    from vqatool.terminal import print_note

    count = len(found.sources)
    if count == 1:
        print_note(
            "one source: the intervals are drawn over its points, and say nothing about other "
            "sources"
        )
    else:
        few = ", which are few: a true interval is wider" if count < _FEW_SOURCES else ""
        print_note(f"the intervals are drawn over {count} sources{few}")
    for each in found.sources:
        for side, left_out in zip("AB", each.num_left_out, strict=True):
            if left_out:
                print_note(
                    f"{side} {each.source}: {left_out} points are left out, because cheaper ones "
                    "are as good"
                )


def _write(found: "Comparison", out: Path) -> None:
    from ladder.storage import atomic_write

    def by_method(values: "Mapping[Method, float]") -> dict[str, float]:
        return {str(method): round(value, 6) for method, value in values.items()}

    content = {
        "format": "vqatool bdrate 1",
        "bd_rate": {str(method): _delta_json(delta) for method, delta in found.rate.items()},
        "bd_quality": {str(method): _delta_json(delta) for method, delta in found.quality.items()},
        "interval_over": str(found.basis),
        "is_log_vmaf": found.is_log_vmaf,
        "is_verdict": found.is_verdict,
        "sources": [
            {
                "source": each.source,
                "bd_rate": by_method(each.rate),
                "bd_quality": by_method(each.quality),
                "points": each.num_points,
                "left_out": each.num_left_out,
            }
            for each in found.sources
        ],
        "failed": dict(found.failed),
    }
    with atomic_write(out) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def _delta_json(delta: "Delta") -> dict[str, float | None]:
    bounds = [None if math.isnan(bound) else round(bound, 6) for bound in delta.interval]
    return {"value": round(delta.value, 6), "low": bounds[0], "high": bounds[1]}
