"""How much damage is seen: by decoding all, by a score, and by one that skims.

    python -m tests.benchmarks.damage SRC.mp4 [--count 20]

Copies of SRC, an MP4 file, are damaged in one place each, drawn at random from the packets of its
video: bytes of zeros as of a download with holes, random bytes, one changed bit, a piece of another
place. A score warns of a file (`damaged`) if what it decodes is damaged. Prints of how many copies
of each kind that is so, beside a strict decoder of every frame.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from ladder import LadderError, probe
from ladder.media.decode import count_decodable_frames
from vqatool.inference.loading import load_predictor
from vqatool.inputs.preprocessor import ClipPreprocessor
from vqatool.scoring.segments import (
    SEGMENTS_PER_TASK,
    DecodedSegments,
    ScoreConfig,
    decode_first_segments,
    decode_segments,
)

_SEED = 20261128
_WAYS = {"a score": False, "one that skims": True}
Draw = np.random.Generator


def _zeros(piece: bytes, draw: Draw, data: bytes) -> bytes:
    return bytes(len(piece))


def _noise(piece: bytes, draw: Draw, data: bytes) -> bytes:
    return draw.bytes(len(piece))


def _bit(piece: bytes, draw: Draw, data: bytes) -> bytes:
    return bytes([piece[0] ^ 1 << int(draw.integers(8))]) + piece[1:]


def _other_place(piece: bytes, draw: Draw, data: bytes) -> bytes:
    start = int(draw.integers(len(data) - len(piece)))
    return data[start : start + len(piece)]


class _Kind(NamedTuple):
    change: Callable[[bytes, Draw, bytes], bytes]
    num_bytes: int


_KINDS = {
    "zeros, 64 KiB": _Kind(_zeros, 65536),
    "zeros, 4 KiB": _Kind(_zeros, 4096),
    "zeros, 512 bytes": _Kind(_zeros, 512),
    "random bytes, 64 KiB": _Kind(_noise, 65536),
    "random bytes, 4 KiB": _Kind(_noise, 4096),
    "random bytes, 64": _Kind(_noise, 64),
    "another place's, 4 KiB": _Kind(_other_place, 4096),
    "one bit": _Kind(_bit, 1),
}


def _video_bytes(path: Path) -> np.ndarray:
    """The places in the file of all bytes of packets of video, as (first, end) of each packet."""
    with av.open(str(path)) as container:
        packets = [(each.pos, each.size) for each in container.demux(video=0) if each.size]
    return np.array([(place, place + size) for place, size in packets if place is not None])


def _damaged_copies(source: Path, kind: _Kind, count: int, folder: Path) -> Iterator[Path]:
    draw = np.random.default_rng(_SEED)
    data, places = source.read_bytes(), _video_bytes(source)
    sizes = places[:, 1] - places[:, 0]
    for _ in range(count):
        at = int(draw.integers(sizes.sum()))
        number = int(np.searchsorted(np.cumsum(sizes), at, side="right"))
        start = int(places[number, 0] + draw.integers(sizes[number]))
        end = min(start + kind.num_bytes, int(places[-1, 1]))
        path = folder / "damaged.mp4"
        path.write_bytes(data[:start] + kind.change(data[start:end], draw, data) + data[end:])
        yield path


def _is_seen(path: Path, preprocessor: ClipPreprocessor, config: ScoreConfig) -> bool:
    """Whether a score of the file would warn, or fail."""
    first = decode_first_segments(path, preprocessor, config)
    if first.failure or not first.info:
        return True
    count = len(config.scored_segments(first.info.duration_s))
    parts: list[DecodedSegments] = [first]
    for start in range(SEGMENTS_PER_TASK, count, SEGMENTS_PER_TASK):
        parts.append(decode_segments(path, None, first.info, start, preprocessor, config))
    return any(part.failure or any(s.is_damaged for s in part.segments) for part in parts)


def _is_seen_by_decoder(path: Path, num_frames: int) -> bool:
    try:
        return count_decodable_frames(path) != num_frames
    except LadderError:
        return True


def main() -> None:
    """Damage, look, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("--count", type=int, default=20, help="copies of each kind")
    options = parser.parse_args()
    preprocessor = replace(load_predictor().preprocessor, threads=1)
    display = probe(options.source).display_size
    ways = {name: ScoreConfig(display, skims=skims) for name, skims in _WAYS.items()}
    num_frames = count_decodable_frames(options.source)
    table = Table("damage", "every frame", *ways)
    with tempfile.TemporaryDirectory(prefix="damage-") as folder:
        for name, kind in _KINDS.items():
            seen = Counter[str]()
            for path in _damaged_copies(options.source, kind, options.count, Path(folder)):
                seen["all"] += _is_seen_by_decoder(path, num_frames)
                for way, config in ways.items():
                    seen[way] += _is_seen(path, preprocessor, config)
            table.add_row(name, *[str(seen[way]) for way in ("all", *ways)])
    Console(width=100).print(f"copies of each kind: {options.count}", table)


if __name__ == "__main__":
    main()
