"""Rungs and ladders: what each encode aims for, the named ladders as plain data, ladder files."""

import itertools
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ladder.errors import LadderFileError
from ladder.ffmpeg import ENCODERS

_CRF_LIMIT = {"libx264": 51, "libx265": 51, "libsvtav1": 63, "libvpx-vp9": 63}
_RUNG_KEYS = ("height_px", "codec", "bitrate_kbps", "crf")


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """One step of a bitrate ladder: a picture size, a codec, and a bitrate or a CRF to spend.

    Exactly one of `bitrate_kbps` and `crf` is set. All encodes of one rung, over all sources, form
    a bitrate group. A portrait source gets `height_px` as its width: a rung names the short side.
    """

    height_px: int
    codec: str = "libx264"
    bitrate_kbps: int | None = None
    crf: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in ENCODERS:
            raise LadderFileError(f"codec is {self.codec!r}, not one of {', '.join(ENCODERS)}")
        if not _is_whole(self.height_px, 16, 8192) or self.height_px % 2:
            raise LadderFileError(f"height_px is {self.height_px!r}, not even and 16 to 8192")
        if (self.bitrate_kbps is None) == (self.crf is None):
            raise LadderFileError("a rung has either bitrate_kbps or crf, and not both")
        if self.bitrate_kbps is not None and not _is_whole(self.bitrate_kbps, 10, 1_000_000):
            raise LadderFileError(f"bitrate_kbps is {self.bitrate_kbps!r}, not 10 to 1000000")
        limit = _CRF_LIMIT[self.codec]
        if self.crf is not None and not _is_whole(self.crf, 1, limit):
            raise LadderFileError(f"crf is {self.crf!r}, not 1 to {limit} ({self.codec})")

    @property
    def name(self) -> str:
        """File-safe and unique in a ladder, such as `720p-3000k-x264` or `540p-crf28-vp9`."""
        spent = f"{self.bitrate_kbps}k" if self.bitrate_kbps else f"crf{self.crf}"
        codec = self.codec.removeprefix("lib").removeprefix("vpx-")
        return f"{self.height_px}p-{spent}-{codec}"

    @property
    def rate_mode(self) -> str:
        """`vbr` (a bitrate with a cap) or `crf` (a quality)."""
        return "vbr" if self.bitrate_kbps else "crf"

    def size_for(self, display_size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of an encode, even, in the aspect of a source shown at `display_size`."""
        width, height = display_size
        long_px = round(self.height_px * max(width, height) / min(width, height) / 2) * 2
        return (long_px, self.height_px) if width >= height else (self.height_px, long_px)


def _bitrates(*rungs: tuple[int, int]) -> tuple[Rung, ...]:
    return tuple(Rung(bitrate_kbps=kbps, height_px=height) for kbps, height in rungs)


def _quality(codec: str, *rungs: tuple[int, int]) -> tuple[Rung, ...]:
    return tuple(Rung(codec=codec, crf=crf, height_px=height) for crf, height in rungs)


LADDERS: dict[str, tuple[Rung, ...]] = {
    # HLS Authoring Specification for Apple devices, H.264, 16:9
    "apple-hls": _bitrates(
        (145, 234), (365, 360), (730, 432), (1100, 432), (2000, 540),
        (3000, 720), (4500, 720), (6000, 1080), (7800, 1080),
    ),
    # Netflix' one ladder for all titles, before per-title encoding (2015)
    "netflix-2015": _bitrates(
        (235, 240), (375, 288), (560, 384), (750, 384), (1050, 480),
        (1750, 480), (2350, 720), (3000, 720), (4300, 1080), (5800, 1080),
    ),
    # one quality knob, one size, the whole range of it
    "crf-sweep": _quality("libx264", *((crf, 540) for crf in (18, 23, 28, 33, 38, 43, 48))),
    # every codec, sizes from 540p down to a fifth, CRF and bitrate: for sources of about 540p
    "training": (
        *_quality("libx264", (20, 540), (35, 540)),
        *_bitrates((500, 540), (350, 360), (200, 270), (80, 180)),
        *_quality("libx265", (30, 540)),
        Rung(codec="libx265", bitrate_kbps=250, height_px=360),
        *_quality("libsvtav1", (38, 540)),
        Rung(codec="libsvtav1", bitrate_kbps=120, height_px=270),
        *_quality("libvpx-vp9", (40, 108)),
        Rung(codec="libvpx-vp9", bitrate_kbps=300, height_px=432),
    ),
}  # fmt: skip
"""The ladders that have a name; sizes above a source's own are left out when it is encoded."""


def ladder_named(name_or_file: str) -> tuple[Rung, ...]:
    """The ladder of that name, or the one in that TOML file.

    A ladder file is a list of tables, one a rung, with the fields of `Rung`:

        [[rung]]
        height_px = 720
        bitrate_kbps = 3000
        codec = "libx264"

    Raises:
        LadderFileError: no such name or file, or a rung breaks a rule; says where and what.
    """
    if name_or_file in LADDERS:
        return LADDERS[name_or_file]
    path = Path(name_or_file)
    if path.suffix != ".toml":
        names = ", ".join(LADDERS)
        raise LadderFileError(f"no ladder is named {name_or_file!r}: use {names}, or a .toml file")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("rung")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LadderFileError(f"{path} cannot be read as a ladder file: {error}") from error
    if not isinstance(tables, list) or not tables:
        raise LadderFileError(f"{path} has no rungs: write one [[rung]] table for each")
    ladder = tuple(_rung(path, number, table) for number, table in enumerate(tables, 1))
    _refuse_twins(path, ladder)
    return ladder


def with_codecs(ladder: Sequence[Rung], codecs: Iterable[str]) -> tuple[Rung, ...]:
    """Every rung of `ladder` once for each of `codecs`; the ladder itself if there are none.

    A CRF is carried over to the other codec's scale by the share of its range.
    """
    chosen = tuple(codecs)
    if not chosen:
        return tuple(ladder)
    every = (_with_codec(rung, codec) for rung, codec in itertools.product(ladder, chosen))
    return tuple(dict.fromkeys(every))


def fitting(ladder: Sequence[Rung], display_size: tuple[int, int]) -> tuple[Rung, ...]:
    """The rungs that do not enlarge a source shown at `display_size`."""
    return tuple(rung for rung in ladder if rung.height_px <= min(display_size))


def _with_codec(rung: Rung, codec: str) -> Rung:
    if rung.crf is None:
        return replace(rung, codec=codec)
    crf = round(rung.crf * _CRF_LIMIT[codec] / _CRF_LIMIT[rung.codec])
    return replace(rung, codec=codec, crf=crf)


def _rung(path: Path, number: int, table: object) -> Rung:
    if not isinstance(table, dict):
        raise LadderFileError(f"{path}, rung {number}: not a table; write [[rung]] above it")
    unknown = sorted(set(table) - set(_RUNG_KEYS))
    if unknown:
        known = ", ".join(_RUNG_KEYS)
        raise LadderFileError(f"{path}, rung {number}: unknown key {unknown[0]!r}; use {known}")
    if "height_px" not in table:
        raise LadderFileError(f"{path}, rung {number}: height_px is missing")
    try:
        return Rung(**table)
    except LadderFileError as error:
        raise LadderFileError(f"{path}, rung {number}: {error}") from error


def _refuse_twins(path: Path, ladder: Sequence[Rung]) -> None:
    names = [rung.name for rung in ladder]
    for name in names:
        if names.count(name) > 1:
            raise LadderFileError(f"{path}: the rung {name} stands there twice")
