"""Whether scores of segments show a bad stretch, for several lengths of segments.

    python -m tests.benchmarks.segments SRC ... [--start 8] [--length 4] [--segment 2.5 ...]

Encodes each source with x264 at CRF 20, but a stretch of it at CRF 44, measures VMAF of every third
frame, and scores the encode at its own size with segments of each length. Prints the error of the
score of the whole, the root mean square of those of its segments, and the lowest segment beside the
lowest one by VMAF.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ladder import find_ffmpeg, probe

_RATES = ("-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20")
_BAD_CRF, _EVERY = 44, 3


@dataclass(frozen=True)
class _Found:
    """Scores of the segments of one video, and what VMAF says of the same frames."""

    scores: list[float]
    labels: list[float]
    whole: float
    label: float

    @property
    def rmse(self) -> float:
        pairs = zip(self.scores, self.labels, strict=True)
        return math.sqrt(sum((score - label) ** 2 for score, label in pairs) / len(self.scores))


def _ffmpeg(*args: object) -> None:
    command = [find_ffmpeg().path, "-v", "fatal", "-nostdin", "-y", *map(str, args)]
    subprocess.run(command, check=True)


def plant(source: Path, start_s: float, length_s: float, folder: Path) -> Path:
    """Encode a source with a bad stretch."""
    fps = float(probe(source).fps)
    first, last = round(start_s * fps), round((start_s + length_s) * fps) - 1
    out = folder / f"{source.stem}.mp4"
    zone = f"zones={first},{last},crf={_BAD_CRF}"
    _ffmpeg("-i", source, *_RATES, "-x264-params", zone, "-fps_mode", "passthrough", out)
    return out


def vmaf_of_frames(encode: Path, source: Path) -> dict[int, float]:
    """VMAF of every third frame, by its number."""
    log = encode.with_suffix(".json")
    paired = "settb=1/1000,setpts=40*N"  # the n-th frames
    graph = (
        f"[0:v]{paired}[a];[1:v]{paired},format=yuv420p[b];"
        f"[a][b]libvmaf=n_threads=2:n_subsample={_EVERY}:log_fmt=json:log_path={log}"
    )
    _ffmpeg(
        "-i", encode, "-i", source, "-lavfi", graph, "-fps_mode", "passthrough", "-f", "null", "-"
    )
    frames = json.loads(log.read_text())["frames"]
    return {frame["frameNum"]: frame["metrics"]["vmaf"] for frame in frames}


def scored(encode: Path, segment_s: float, vmaf: dict[int, float]) -> _Found:
    """Score an encode with segments of a length."""
    with tempfile.TemporaryDirectory() as name:
        rows, segments = Path(name) / "rows.csv", Path(name) / "segments.csv"
        command = [sys.executable, "-m", "vqatool", "score", encode, "--display", "native"]
        command += ["--segment", segment_s, "-o", rows, "--per-segment", segments, "-q"]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        with rows.open() as file:
            (whole,) = csv.DictReader(file)
        with segments.open() as file:
            parts = [
                (float(r["score"]), float(r["start_s"]), float(r["end_s"]))
                for r in csv.DictReader(file)
            ]
    fps = float(probe(encode).fps)
    labels = [
        float(np.mean([value for n, value in vmaf.items() if start_s <= n / fps < end_s]))
        for _, start_s, end_s in parts
    ]
    mean = float(np.mean(list(vmaf.values())))
    return _Found([part[0] for part in parts], labels, float(whole["score"]), mean)


def main() -> None:
    """Plant, measure, score, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.segments")
    parser.add_argument("sources", nargs="+", type=Path, metavar="SRC")
    parser.add_argument("--start", type=float, default=8, help="of the bad stretch, in seconds")
    parser.add_argument("--length", type=float, default=4, help="of the bad stretch; 0: none")
    parser.add_argument("--segment", type=float, action="append", help="repeatable")
    options = parser.parse_args()
    lengths_s = options.segment or [10, 5, 2.5, 1.25]
    table = Table(title=f"{options.length:g} s at CRF {_BAD_CRF}", title_justify="left")
    for heading in (
        "source",
        "segments of s",
        "score",
        "VMAF",
        "RMSE of segments",
        "lowest",
        "its VMAF",
    ):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    found: dict[float, list[_Found]] = {}
    with tempfile.TemporaryDirectory(prefix="segments-") as name:
        for source in options.sources:
            encode = plant(source, options.start, options.length, Path(name))
            vmaf = vmaf_of_frames(encode, source)
            for segment_s in lengths_s:
                one = scored(encode, segment_s, vmaf)
                found.setdefault(segment_s, []).append(one)
                figures = (one.whole, one.label, one.rmse, min(one.scores), min(one.labels))
                texts = [f"{value:.1f}" for value in figures]
                table.add_row(source.stem, f"{segment_s:g}", *texts)
    for segment_s, all_of_it in found.items():
        error = math.sqrt(float(np.mean([(each.whole - each.label) ** 2 for each in all_of_it])))
        rmse = math.sqrt(float(np.mean([each.rmse**2 for each in all_of_it])))
        table.add_row("RMSE of all", f"{segment_s:g}", f"{error:.1f}", "", f"{rmse:.1f}", "", "")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
