"""Thousands of damaged, false and oddly named files: each must become a row, whatever is in it.

    python -m tests.benchmarks.fuzz score --work fuzz [--count 2000] [--first 0]
    python -m tests.benchmarks.fuzz ladder --work fuzz [--count 200]

Small valid files of every codec and container of `tests/wrapping.py` are changed at random: bytes,
chunks, headers, ends, suffixes. Beside them lie empty files, texts, links in circles, pipes, and
names with any byte. `score` runs `vqatool score DIR -o report.csv`, `ladder` runs `vqatool ladder`
and `vqatool label`. Prints what became of each kind of change, and the wall time. Ends with 1 if a
file has no row or a row no reason, a program crashed or hung, a fault of vqatool was met, or a
process or a file was left behind. An input follows from its number alone: `--first N --count 1`
makes the N-th again.
"""

import argparse
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from ladder import Ffmpeg, encodes_table, find_ffmpeg, labels_table
from ladder.storage import Table as Rows
from tests.wrapping import CODERS, Sound, encode, wrap, wrappings
from vqatool.scoring.rows import ReportRow

_SCENE = "testsrc2=size=96x64:rate=25,noise=alls=8:all_seed=1,format=yuv420p,trim=end_frame=14"
_MAX_S = 3.0  # for one input, before a run counts as hung
_RUNGS = '[[rung]]\nheight_px = 48\ncrf = 40\npreset = "ultrafast"\n'
_MARK = "VQATOOL_FUZZ"  # in the environment of all processes of a run
_FAULTS = ("internal", "crashed", "timeout")  # codes of rows that no file may cause
_NAME_BYTES = 255

Draw = np.random.Generator

T = TypeVar("T")


def flip(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    for place in draw.integers(len(data), size=int(draw.integers(1, 60))):
        data[place] = int(draw.integers(256))
    return bytes(data)


def truncate(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    return bytes(data[: int(draw.integers(len(data)))])


def remove(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    start, end = _chunk(data, draw)
    return bytes(data[:start] + data[end:])


def duplicate(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    start, end = _chunk(data, draw)
    return bytes(data[:end] + data[start:])


def clear(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    start, end = _chunk(data, draw)
    data[start:end] = bytes(end - start)
    return bytes(data)


def swap(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    start, end = _chunk(data, draw)
    return bytes(data[end:] + data[start:end] + data[:start])


def rewrite_header(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    for place in draw.integers(min(len(data), 600), size=int(draw.integers(1, 16))):
        data[place] = int(draw.integers(256))
    return bytes(data)


def extreme_number(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    for place in draw.integers(max(1, len(data) - 8), size=int(draw.integers(1, 4))):
        words = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0")
        data[place : place + 4] = _one_of(words, draw)
    return bytes(data)


def extreme_box(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    """Change a number close behind a name of four letters, as MP4 and AVI have them."""
    names = (b"moov", b"mdhd", b"mvhd", b"tkhd", b"stts", b"ctts", b"stsz", b"stsc", b"stco",
             b"stss", b"elst", b"avcC", b"hvcC", b"stsd", b"trun", b"tfhd", b"strh", b"strf",
             b"idx1", b"avih", b"onMe")  # fmt: skip
    here = [place for place in map(bytes(data).find, names) if place > 4]
    if not here:
        return rewrite_header(data, draw, others)
    place = _one_of(here, draw) + int(draw.integers(-4, 40))
    return bytes(data[:place]) + draw.bytes(int(draw.integers(1, 5))) + bytes(data[place + 4 :])


def splice(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    other = _one_of(others, draw)
    return bytes(data[: int(draw.integers(len(data)))]) + other[int(draw.integers(len(other))) :]


def join(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    return bytes(data) + _one_of(others, draw)


def append_noise(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    return bytes(data) + draw.bytes(int(draw.integers(1, 60000)))


def prepend_noise(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    return draw.bytes(int(draw.integers(1, 3000))) + bytes(data)


def leave(data: bytearray, draw: Draw, others: Sequence[bytes]) -> bytes:
    return bytes(data)


def _one_of(items: Sequence[T], draw: Draw) -> T:
    return items[int(draw.integers(len(items)))]


def _chunk(data: bytearray, draw: Draw) -> tuple[int, int]:
    start = int(draw.integers(len(data)))
    return start, min(len(data), start + int(draw.integers(1, max(2, len(data) // 3))))


def no_bytes(draw: Draw) -> bytes:
    return b""


def text(draw: Draw) -> bytes:
    texts = (
        b"I am no video.\n" * 99, b'{"a": [1, 2]}', b"<html><body>404</body></html>",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n/etc/passwd\n",
        b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/x.ts\n",
        b"ffconcat version 1.0\nfile 0.mp4\n", b"\x7fELF", b"PK\x03\x04" + bytes(40),
        b"%PDF-1.7\n", b"YUV4MPEG2 W96 H64 F25:1\nFRAME\n", b"[Script Info]\n",
        b"1\n00:00:00,000 --> 00:00:01,000\nHello\n",
    )  # fmt: skip
    return _one_of(texts, draw)


def noise(draw: Draw) -> bytes:
    return draw.bytes(int(draw.integers(1, 20000)))


def one_byte_again(draw: Draw) -> bytes:
    return bytes([int(draw.integers(256))]) * int(draw.integers(1, 50000))


CHANGES: Sequence[Callable[[bytearray, Draw, Sequence[bytes]], bytes]] = (
    flip, truncate, remove, duplicate, clear, swap, rewrite_header, extreme_number, extreme_box,
    splice, join, append_noise, prepend_noise, leave,
)  # fmt: skip
MADE_UP = (no_bytes, text, noise, one_byte_again)
NO_FILES = ("link to itself", "link to nowhere", "link to a device", "link to another", "pipe",
            "not readable")  # fmt: skip
SUFFIXES = (".mp4", ".mkv", ".avi", ".ts", ".webm", ".flv", ".mov", ".mxf", ".wmv", ".mpg", ".vob",
            ".3gp", ".ogv", ".ivf", ".y4m", ".m2ts", ".MP4", ".obu", ".m4v", ".rm")  # fmt: skip
OTHER_SUFFIXES = ("", ".jpg", ".txt", ".m3u8", ".mpd", ".mp3", ".gif", ".bin", ".part", ".264")
"""Of files that count as videos only if there is video in them."""

_ODD = (b"a\rb", b"a\nb", b"a\tb", b"\x1b[31m", b"\xff\xfe", b"=1+1", b"+x", b"-rf", b"@list",
        b"[0:v]", b"100%d", b"a'b", b'a"b', b"a\\b", b"$(x)", b"a;b,c", b"a:b", b"\xc3\xa9",
        "\U0001f3ac".encode(), "\u202ebidi".encode(), b"*?", b"  two  ", b"~", b"a..b", b"{}",
        b"\x01", b"file:x", b"pipe:1", b"#", b"&amp;<x>", b"concat:a|b")  # fmt: skip


def name_of(number: int, suffix: str, draw: Draw) -> str:
    """A name without an equal, one in three of them odd."""
    chosen = draw.integers(3 * len(_ODD) + 2)
    plain = b"%04d" % number
    if chosen < len(_ODD):
        stem = _ODD[chosen] + plain
    elif chosen < len(_ODD) + 2:
        stem = plain + b"x" * (_NAME_BYTES - len(plain) - len(suffix))
    else:
        stem = plain
    return os.fsdecode(stem + suffix.encode())


@dataclass
class Inputs:
    """The folder of a run: `required` files must have a row, `others` may; by kind of change."""

    folder: Path
    required: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


def seeds(folder: Path, ffmpeg: Ffmpeg) -> list[Path]:
    """Small valid files: every codec in every container, with sound in every second one."""
    found: list[Path] = []
    for number, coder in enumerate(CODERS):
        own = folder / coder.name
        if not own.exists():
            own.mkdir(parents=True)
            stream = encode(coder, ["-f", "lavfi", "-i", _SCENE], folder / coder.name, ffmpeg)
            names = wrappings(coder, Fraction(25))
            wrap(stream, coder, names, own, ffmpeg, sound=Sound(number % 2), length_s=0.56)
        found += sorted(own.iterdir())
    return found


def make_inputs(folder: Path, sources: Sequence[Path], first: int, count: int) -> Inputs:
    """Write inputs from the number `first` on, until `count` of them must have a row."""
    inputs = Inputs(folder)
    (folder / "below").mkdir(parents=True)
    (folder / "circle").symlink_to(folder)
    contents = [source.read_bytes() for source in sources]
    for number in itertools.count(first):
        if len(inputs.required) == count:
            break
        draw = np.random.default_rng(number)
        where = folder / "below" if draw.random() < 0.2 else folder
        kind, suffix, data = _drawn(draw, sources, contents)
        is_required = suffix in SUFFIXES
        path = where / name_of(number, suffix, draw)
        _write(path, kind, data, folder.parent)
        (inputs.required if is_required else inputs.others)[str(path)] = kind
    return inputs


def _drawn(
    draw: Draw, sources: Sequence[Path], contents: Sequence[bytes]
) -> tuple[str, str, bytes]:
    """The kind of an input, its suffix and its bytes."""
    which = int(draw.integers(len(sources)))
    suffix, chance = sources[which].suffix, draw.random()
    if suffix not in SUFFIXES or chance < 0.1:
        suffix = _one_of(SUFFIXES, draw)
    elif chance < 0.15:
        suffix = _one_of(OTHER_SUFFIXES, draw)
    chance = draw.random()
    if chance < 0.03:
        return _one_of(NO_FILES, draw), suffix, contents[which]
    if chance < 0.1:
        made_up = _one_of(MADE_UP, draw)
        return made_up.__name__, suffix, made_up(draw)
    change = _one_of(CHANGES, draw)
    data = change(bytearray(contents[which]), draw, contents)
    if draw.random() < 0.2:  # twice damaged
        data = flip(bytearray(data or b"\0"), draw, contents)
    return change.__name__, suffix, data


def _write(path: Path, kind: str, data: bytes, outside: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "link to nowhere":
        path.symlink_to("nowhere")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "link to another":
        target = outside / f"target{path.suffix}"
        if not target.exists():
            target.write_bytes(data)
        path.symlink_to(target)
    else:
        path.write_bytes(data)
        if kind == "not readable":  # root may read it
            path.chmod(0)


class Run:
    """Programs run one after another, in a folder of their own, also for temporary files."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self._seconds, self._mark = folder, seconds, uuid.uuid4().hex
        self.here, self.temporary = folder / "here", folder / "tmp"
        self.here.mkdir()
        self.temporary.mkdir()
        self.faults: list[str] = []
        self.wall_s = 0.0

    def program(self, *words: str) -> None:
        """`vqatool` with these arguments; what is wrong with its end is a fault."""
        environment = {**os.environ, "TMPDIR": str(self.temporary), _MARK: self._mark}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-m", "vqatool", *words]
        log = self.folder / f"{words[0]}.log"
        started = time.monotonic()
        with log.open("w") as out:
            process = subprocess.Popen(
                command, cwd=self.here, env=environment, stdout=out, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                status = process.wait(self._seconds)
            except subprocess.TimeoutExpired:
                status = None
        self.wall_s += time.monotonic() - started
        if status not in (0, 4):
            self.faults.append(f"{words[0]} ended with {status}, see {log}")
        if "Traceback (most recent call last)" in log.read_text(errors="replace"):
            self.faults.append(f"a traceback is in {log}")
        self._look_for_remains(words[0])

    def _look_for_remains(self, name: str) -> None:
        for process in self._strays():
            self.faults.append(f"{name} left the process {process.pid}: {process.name()}")
            process.kill()
        left = [str(p) for place in (self.here, self.temporary) for p in place.rglob("*")]
        if left:
            self.faults.append(f"{name} left {', '.join(left)}")

    def _strays(self) -> list[psutil.Process]:
        deadline = time.monotonic() + 10  # servers of workers end by themselves, a moment later
        while True:
            found = []
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    if process.environ().get(_MARK) == self._mark:
                        found.append(process)
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


def score(run: Run, inputs: Inputs) -> Counter[tuple[str, str]]:
    """`vqatool score` on the folder; returns how many of each kind became what."""
    report = run.folder / "report.csv"
    run.program("score", str(inputs.folder), "-o", str(report), "--display", "320x180")
    rows = {row.path: row for row in Rows(report, ReportRow).rows()}
    run.faults += [f"no row: {path!r}" for path in inputs.required.keys() - rows.keys()]
    kinds = inputs.required | inputs.others
    run.faults += [f"no such input: {path!r}" for path in rows.keys() - kinds.keys()]
    outcomes: Counter[tuple[str, str]] = Counter()
    for path, row in rows.items():
        outcomes[kinds.get(path, ""), row.error_code or row.status] += 1
        is_scored = row.status == "ok" and row.score is not None and 0 <= row.score <= 100
        if not is_scored and not (row.error_code and row.error and row.score is None):
            run.faults.append(f"neither a score nor a reason: {row}")
        if row.error_code in _FAULTS:
            run.faults.append(f"{row.error_code}: {row.error!r}")
    return outcomes


def ladder(run: Run, inputs: Inputs) -> Counter[tuple[str, str]]:
    """`vqatool ladder` on the folder, then `vqatool label`."""
    rungs, work = run.folder / "rungs.toml", run.folder / "encodes"
    rungs.write_text(_RUNGS)
    run.program("ladder", str(inputs.folder), "-o", str(work), "--rungs", str(rungs))
    run.program("label", str(work), "--vmaf-model", "v0")
    rows = encodes_table(work).rows()
    labels = {row.encode_path: row for row in labels_table(work).rows()}
    kinds = {os.path.realpath(path): kind for path, kind in inputs.required.items()}
    found = {row.source_path for row in rows}
    run.faults += [f"no row: {path!r}" for path in kinds.keys() - found]
    outcomes: Counter[tuple[str, str]] = Counter()
    for row in rows:
        label = labels.get(row.encode_path)
        if row.status == "ok" and (not label or (label.vmaf is None and not label.error)):
            run.faults.append(f"neither a label nor a reason: {row.source_path!r}")
        what = row.status if not label else f"{row.status}, label {label.status}"
        outcomes[kinds.get(row.source_path, ""), what] += 1
        if row.status == "error" and not row.error:
            run.faults.append(f"no reason: {row.source_path!r}")
    left = [p for p in work.rglob("*") if p.name.endswith(".part") or p.name == ".lock"]
    run.faults += [f"left in the work folder: {path}" for path in left]
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fuzz")
    stages = {"score": score, "ladder": ladder}
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--count", type=int, default=2000, help="of inputs that must have a row")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    options = parser.parse_args()
    sources = seeds(options.work.resolve() / "seeds", find_ffmpeg())
    folder = options.work.resolve() / options.stage
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    inputs = make_inputs(folder / "inputs", sources, options.first, options.count)
    before = _listing(inputs.folder)
    run = Run(folder, 300 + _MAX_S * options.count)
    outcomes = stages[options.stage](run, inputs)
    if _listing(inputs.folder) != before:
        run.faults.append("the folder of the inputs has changed")
    _print(outcomes, run, inputs)
    sys.exit(bool(run.faults))


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def _print(outcomes: Counter[tuple[str, str]], run: Run, inputs: Inputs) -> None:
    console = Console(width=150)
    columns = sorted({what for _, what in outcomes})
    table = Table("change", *columns)
    for kind in sorted({kind for kind, _ in outcomes}):
        table.add_row(kind, *(str(outcomes[kind, what] or "") for what in columns))
    table.add_section()
    sums = [sum(n for (_, w), n in outcomes.items() if w == what) for what in columns]
    table.add_row("all", *map(str, sums))
    console.print(table)
    console.print(
        f"{len(inputs.required)} inputs that must have a row, {len(inputs.others)} that may; "
        f"{outcomes.total()} rows, {run.wall_s:.0f} s, {len(run.faults)} faults"
    )
    for fault in run.faults:
        console.print(f"- {fault}", markup=False)


if __name__ == "__main__":
    main()
