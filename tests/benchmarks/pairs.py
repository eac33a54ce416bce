"""Compare the VMAF of `vqatool label --source` with that of ffmpeg-quality-metrics.

    python -m tests.benchmarks.pairs SRC [SRC ...]

Two encodes of each source are made, in turn with four encoders and at three sizes, with sound, in
MP4, Matroska and WebM. Both programs run the same ffmpeg, and VMAF v0.6.1 alone. The program prints
a line for each pair and the largest difference of the means.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ffmpeg_quality_metrics import FfmpegQualityMetrics
from rich.console import Console
from rich.table import Table

from ladder import Ffmpeg, find_ffmpeg

_MODEL = "vmaf_v0.6.1"
_ENCODERS = {
    "x264.mp4": ("libx264", "-crf", "30", "-preset", "fast"),
    "x265.mkv": ("libx265", "-crf", "34", "-preset", "fast", "-x265-params", "log-level=error"),
    "vp9.webm": ("libvpx-vp9", "-b:v", "400k", "-deadline", "realtime", "-cpu-used", "5"),
    "av1.mp4": ("libsvtav1", "-crf", "45", "-preset", "10"),
}
_SIZES = ("iw:ih", "trunc(iw/4)*2:trunc(ih/4)*2", "trunc(iw/3)*2:trunc(ih/3)*2")
_PER_SOURCE = 2


def encode(ffmpeg: Ffmpeg, source: Path, number: int, folder: Path) -> Path:
    """One encode with the encoder and size whose turn it is."""
    name = list(_ENCODERS)[number % len(_ENCODERS)]
    out = folder / f"{source.stem}_{number}-{name}"
    sound = ["-f", "lavfi", "-i", "sine", "-shortest", "-map", "0:v:0", "-map", "1:a"]
    size = ["-vf", f"scale={_SIZES[number % len(_SIZES)]}:flags=bicubic", "-pix_fmt", "yuv420p"]
    command = [ffmpeg.path, "-v", "error", "-y", "-i", str(source), *sound, *size]
    subprocess.run([*command, "-c:v", *_ENCODERS[name], str(out)], check=True)
    return out


def ours(ffmpeg: Ffmpeg, source: Path, made: Path) -> float:
    """The mean VMAF that the program prints."""
    command = [sys.executable, "-m", "vqatool", "-q", "label", "--source", str(source), str(made)]
    options = ["--json", "--vmaf-model", _MODEL, "--ffmpeg", ffmpeg.path]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["vmaf"])


def theirs(ffmpeg: Ffmpeg, source: Path, made: Path, folder: Path) -> float:
    """The mean over the frames that the peer measures."""
    peer = FfmpegQualityMetrics(
        str(source), str(made), ffmpeg_path=ffmpeg.path, tmp_dir=str(folder)
    )
    options: Any = {"model_path": f"{_MODEL}.json"}  # the peer fills in the others
    frames = peer.calculate(["vmaf"], vmaf_options=options)["vmaf"]
    return sum(float(frame["vmaf"]) for frame in frames) / len(frames)


def main() -> None:
    """Make the encodes, measure them twice and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path)
    sources = parser.parse_args().sources
    ffmpeg, console = find_ffmpeg(), Console()
    table = Table("encode", "ours", "theirs", "difference", "ours, s", "theirs, s")
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(_PER_SOURCE * len(sources)):
            source = sources[number // _PER_SOURCE]
            made = encode(ffmpeg, source, number, folder)
            started = time.monotonic()
            our_vmaf = ours(ffmpeg, source, made)
            middle = time.monotonic()
            their_vmaf = theirs(ffmpeg, source, made, folder)
            worst = max(worst, abs(our_vmaf - their_vmaf))
            values = (our_vmaf, their_vmaf, our_vmaf - their_vmaf)
            seconds = (middle - started, time.monotonic() - middle)
            table.add_row(
                made.name, *(f"{value:.4f}" for value in values), *(f"{s:.1f}" for s in seconds)
            )
    console.print(table)
    console.print(f"largest difference of {table.row_count} pairs: {worst:.4f}")


if __name__ == "__main__":
    main()
