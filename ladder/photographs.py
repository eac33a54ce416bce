"""Clean sources made of photographs: a virtual camera moves over each, so that it is a video.

    python -m ladder.photographs photos/ -o clean-1080 --height 1080
    python -m ladder.treatments clean-1080 -o wide

Videos of 1080 lines that no encoder has touched are rare; photographs of cameras are not, and have
the fine texture that encoders lose first. The camera pans, zooms, turns, whips or is held by hand,
some shots have the blur of an open shutter, some the noise of a sensor. Nothing in them moves by
itself, and nothing hides anything else, so they stand beside films and not for them.

A move depends on the name of the photograph alone: the same photograph at another height is the
same content. A run that was killed continues.
"""

import argparse
import functools
import math
import sys
import zlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from ladder.errors import LadderError
from ladder.made_videos import (
    VideoCommand,
    add_common_options,
    make_missing,
    one_for_each_name,
    report_progress,
)
from ladder.media.ffmpeg import Ffmpeg, file_url, find_ffmpeg
from ladder.media.probe import probe

PHOTOGRAPH_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})

_SEED = 20261128
_ASPECT = 16 / 9
_CANVAS = 1.6  # heights of the video in the scaled photograph that the camera moves over
_SECONDS = 2.2
_RATES = (24, 25, 30)
_ZOOMS = (0.64, 0.92)  # view in canvases: 1 to 1.5 pixels of the canvas for one of the video
_MAX_TURN = math.radians(7)
_MOMENTS = 4  # in the time of a frame; an open shutter sees the first two or three of them
_CODING = ("-c:v", "libx264", "-preset", "medium", "-crf", "13", "-pix_fmt", "yuv420p")


class Kind(StrEnum):
    """What the camera does."""

    PAN = "pan"
    ZOOM = "zoom"
    TURN = "turn"
    WHIP = "whip"  # a fast pan
    HELD = "held"  # stands, as far as a hand does


@dataclass(frozen=True, kw_only=True)
class Sway:
    """One swing of a hand: `amplitude` is a share of the view, `hertz` its frequency."""

    amplitude: float
    hertz: float
    phase: float


@dataclass(frozen=True, kw_only=True)
class Move:
    """The way of a virtual camera over a photograph, from its first frame to its last.

    Attributes:
        kind: what the camera does.
        fps: frames a second.
        zoom: width of the view at both ends, 1: the whole picture.
        across, down: where the view is at both ends, 0 to 1 of the way that it has.
        angle: of the view at both ends, radians.
        sways: of a hand, across and down.
        shutter: moments, of `_MOMENTS`, that one frame is the mean of; 1: a short exposure.
        noise: strength of a sensor's noise for ffmpeg; 0: none.
    """

    kind: Kind
    fps: int
    zoom: tuple[float, float]
    across: tuple[float, float]
    down: tuple[float, float]
    angle: tuple[float, float]
    sways: tuple[tuple[Sway, ...], tuple[Sway, ...]]
    shutter: int
    noise: int


def draw_move(name: str) -> Move:
    """The move for a photograph of this name, the same in every run and on every machine."""
    random = np.random.default_rng([_SEED, zlib.crc32(name.encode("utf-8", "surrogateescape"))])
    kind = Kind(str(random.choice([*Kind])))
    angle = float(random.uniform(0.25, 1)) * _MAX_TURN if kind is Kind.TURN else 0.0
    first, last = sorted((random.uniform(*_ZOOMS, 2) / _sides_of_turned(angle)).tolist())
    if kind is not Kind.ZOOM:
        last = first
    zoom = (first, last) if random.random() < 0.5 else (last, first)
    way = {Kind.PAN: (0.25, 0.9), Kind.WHIP: (0.9, 1.0)}.get(kind, (0.0, 0.15))
    is_held = kind is Kind.HELD or random.random() < 0.45
    # the few moments of a fast pan would be seen apart
    has_blur = kind is not Kind.WHIP and random.random() < 0.4
    return Move(
        kind=kind,
        fps=int(random.choice(_RATES)),
        zoom=zoom,
        across=_way(random, *way),
        down=_way(random, *way) if random.random() < 0.5 else _way(random, 0.0, 0.1),
        angle=(-angle, angle) if random.random() < 0.5 else (angle, -angle),
        sways=(_hand(random), _hand(random)) if is_held else ((), ()),
        shutter=int(random.integers(2, 4)) if has_blur else 1,
        noise=int(random.integers(2, 9)) if random.random() < 0.25 else 0,
    )


def _sides_of_turned(angle: float) -> float:
    """What a turned view takes of the picture, in sides of its own, at most."""
    return math.cos(angle) + _ASPECT * math.sin(abs(angle))


def _way(random: np.random.Generator, least: float, most: float) -> tuple[float, float]:
    length = float(random.uniform(least, most))
    begin = float(random.uniform(0, 1 - length))
    return (begin, begin + length) if random.random() < 0.5 else (begin + length, begin)


def _hand(random: np.random.Generator) -> tuple[Sway, ...]:
    strength = math.exp(random.uniform(math.log(0.001), math.log(0.012)))
    return tuple(
        Sway(
            amplitude=round(strength / number, 6),
            hertz=round(float(random.uniform(0.5, 1.3)) * number, 3),
            phase=round(float(random.uniform(0, math.tau)), 3),
        )
        for number in (1, 2, 4)
    )


def camera_filter(move: Move, height_px: int) -> str:
    """ffmpeg's filters that turn one picture, repeated, into the video.

    Args:
        move: of the camera.
        height_px: of the video; its width where the picture stands upright.
    """
    long_px, short_px = (2 * round(height_px * side / 2) for side in (_ASPECT, 1.0))
    canvas = [2 * round(_CANVAS * side / 2) for side in (long_px, short_px)]
    corners = []
    for number, (right, low) in enumerate([(-1, -1), (1, -1), (-1, 1), (1, 1)]):
        x, y = _corner(move, right, low)
        corners.append(f"x{number}='{x}':y{number}='{y}'")
    filters = [
        f"scale={_upright(*canvas)}:force_original_aspect_ratio=increase:flags=lanczos",
        f"crop={_upright(*canvas)}",
        f"format=yuv420p,loop=-1:1,setpts=N/{move.fps * move.shutter}/TB",
        f"perspective={':'.join(corners)}:interpolation=cubic:sense=source:eval=frame",
        f"scale={_upright(long_px, short_px)}:flags=lanczos",
    ]
    if move.shutter > 1:
        filters += [
            f"tmix=frames={move.shutter}",
            f"select='eq(mod(n,{move.shutter}),{move.shutter - 1})'",
        ]
    if move.noise:
        filters.append(f"noise=alls={move.noise}:allf=t")
    return ",".join([*filters, f"settb=1/{move.fps},setpts=N,fps={move.fps},setsar=1"])


def _upright(long_px: int, short_px: int) -> str:
    """Width and height for ffmpeg: the longer side is that of the picture."""
    return f"w='if(gte(iw,ih),{long_px},{short_px})':h='if(gte(iw,ih),{short_px},{long_px})'"


def _corner(move: Move, right: int, low: int) -> tuple[str, str]:
    """Where a corner of the view is, in ffmpeg's expressions; its `on` counts what is drawn."""
    shutter = move.shutter
    drawn = "(on-1)"  # it counts the first frame as 1
    frame = f"(floor({drawn}/{shutter})+mod({drawn},{shutter})/{_MOMENTS})"
    done = f"min(1,{frame}/{max(1, _num_frames(move) - 1)})"

    def between(ends: tuple[float, float]) -> str:
        return f"({ends[0]:.6f}+{ends[1] - ends[0]:.6f}*{done})"

    zoom, angle = between(move.zoom), between(move.angle)
    sides = _sides_of_turned(move.angle[0])
    across, down = (
        f"(0.5+({1 - 2 * _reach(sways):.6f}-{zoom}*{sides:.6f})*({between(ends)}-0.5)"
        f"{_swing(sways, frame, move.fps)})"
        for ends, sways in zip((move.across, move.down), move.sways, strict=True)
    )
    x, y = f"({right}*W/2*{zoom})", f"({low}*H/2*{zoom})"
    return (
        f"W*{across}+{x}*cos({angle})-{y}*sin({angle})",
        f"H*{down}+{x}*sin({angle})+{y}*cos({angle})",
    )


def _reach(sways: Sequence[Sway]) -> float:
    return sum(sway.amplitude for sway in sways)


def _swing(sways: Sequence[Sway], frame: str, fps: int) -> str:
    return "".join(
        f"+{each.amplitude}*sin({math.tau * each.hertz / fps:.6f}*{frame}+{each.phase})"
        for each in sways
    )


def _num_frames(move: Move) -> int:
    return round(_SECONDS * move.fps)


def find_photographs(paths: Iterable[Path]) -> list[Path]:
    """Photographs named, and those in the folders named and below them, in order."""
    found: set[Path] = set()
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        found |= {each for each in files if each == path or _is_photograph(each)}
    return sorted(found)


def _is_photograph(path: Path) -> bool:
    is_hidden = path.name.startswith(".")  # such as what macOS puts beside files
    return path.suffix.lower() in PHOTOGRAPH_SUFFIXES and not is_hidden and path.is_file()


def make_moving(
    photographs: Iterable[Path],
    folder: Path,
    height_px: int,
    ffmpeg: Ffmpeg,
    *,
    jobs: int | None = None,
) -> Generator[tuple[Path, Exception | None]]:
    """Make the videos of these photographs that are missing; yields the path of each as it is done.

    A video that cannot be made leaves no file, and comes with the reason: the photograph cannot be
    read, is too small, or has the name of another; of the last its own path is given.

    Args:
        photographs: pictures that ffmpeg reads.
        folder: for the videos, which have the names of their photographs.
        height_px: of the videos, even; the width of those of upright photographs.
        ffmpeg: program to run.
        jobs: videos at once; None: one for each core, four at most.

    Raises:
        LockedError: another run uses the folder.
    """
    named, refused = one_for_each_name(photographs)
    yield from refused
    videos = {name: functools.partial(_command, path, height_px) for name, path in named.items()}
    yield from make_missing(folder, videos, ffmpeg, jobs=jobs)


def _command(photograph: Path, height_px: int) -> VideoCommand:
    _require_size(photograph, height_px)
    move = draw_move(photograph.stem)
    arguments = [
        "-i", file_url(photograph), "-vf", camera_filter(move, height_px),
        "-frames:v", str(_num_frames(move)), *_CODING, "-threads", "1",
    ]  # fmt: skip
    return VideoCommand(arguments, _num_frames(move) / move.fps)


def _require_size(photograph: Path, height_px: int) -> None:
    """Refuse a photograph that would be enlarged: it would be a soft video, not a clean one."""
    size = probe(photograph).display_size
    short_px, long_px = sorted(size)
    if short_px >= _CANVAS * height_px and long_px >= _CANVAS * _ASPECT * height_px:
        return
    largest = 2 * int(min(short_px, long_px / _ASPECT) / _CANVAS / 2)
    raise LadderError(
        f"{photograph} is {size.width_px}x{size.height_px} px: enough for a video of {largest} "
        f"lines, not of {height_px}; choose --height {largest} or less"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the videos; returns the exit code that `vqatool ladder` would."""
    parser = argparse.ArgumentParser(
        prog="python -m ladder.photographs", description="Make videos of photographs."
    )
    parser.add_argument(
        "photographs", type=Path, nargs="+", metavar="PHOTO", help="a photograph, or a folder"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the videos")
    add_common_options(parser, height_px=1080)
    options = parser.parse_args(arguments)
    photographs = find_photographs(options.photographs)
    if not photographs:
        names = ", ".join(sorted(PHOTOGRAPH_SUFFIXES))
        parser.error(f"no photograph in {', '.join(map(str, options.photographs))} ({names})")
    made = make_moving(photographs, options.out, options.height, find_ffmpeg(), jobs=options.jobs)
    return report_progress(options.out, made)


if __name__ == "__main__":
    sys.exit(main())
