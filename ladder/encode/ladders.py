"""Ladders: named ones as data, ladder files, and the rungs that fit a source."""

import dataclasses
import itertools
import tomllib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ladder.codecs import CODECS
from ladder.encode.rungs import Rung
from ladder.errors import LadderFileError

_RUNG_KEYS = tuple(field.name for field in dataclasses.fields(Rung))


_FILE_KEYS = ("num_rungs", "default", "rung")


_FORMER_KEYS = {"points": "num_rungs", "laundered_crf": "reencode_crf"}  # of version 0.1


_MIN_NUM_RUNGS = 4


@dataclass(frozen=True)
class Ladder:
    """The rungs a source is encoded at.

    Attributes:
        rungs: each once.
        num_rungs: None encodes every rung that fits. A number makes the ladder adaptive: so many
            rungs are chosen for each source, evenly spaced in VMAF (`ladder.recommend.adaptive`).
    """

    rungs: tuple[Rung, ...]
    num_rungs: int | None = None


def _bitrates(*rungs: tuple[int, int]) -> Ladder:
    return Ladder(tuple(Rung(bitrate_kbps=kbps, height_px=height) for kbps, height in rungs))


def _training() -> Ladder:
    """Every codec at 2160p to 108p, by CRF and by bitrate: the choice of the adaptive ladder."""
    crfs = {codec.encoder: codec.training_crfs for codec in CODECS.values() if codec.training_crfs}
    heights = (2160, 1440, 1080, 720, 540, 360, 216, 108)
    quality = [
        Rung(height_px=height, codec=codec, crf=crf)
        for height, codec in itertools.product(heights, crfs)
        for crf in crfs[codec]
    ]
    # about 0.02 and 0.07 bits per pixel at 16:9 and 25 fps; SVT-AV1 has a lowest bitrate
    bitrates = [
        Rung(
            height_px=height, codec=codec, bitrate_kbps=max(60, 10 * round(height**2 * factor / 10))
        )
        for height, codec in itertools.product(heights, crfs)
        for factor in (0.0009, 0.0031)
    ]
    return Ladder(tuple(dict.fromkeys([*quality, *bitrates])), num_rungs=16)


LADDERS: dict[str, Ladder] = {
    # HLS Authoring Specification for Apple devices, H.264, 16:9
    "apple-hls": _bitrates(
        (145, 234), (365, 360), (730, 432), (1100, 432), (2000, 540),
        (3000, 720), (4500, 720), (6000, 1080), (7800, 1080),
    ),
    # Netflix's fixed ladder for all titles, before per-title encoding (2015)
    "netflix-2015": _bitrates(
        (235, 240), (375, 288), (560, 384), (750, 384), (1050, 480),
        (1750, 480), (2350, 720), (3000, 720), (4300, 1080), (5800, 1080),
    ),
    # YouTube's recommended bitrates for uploads, SDR, 24 to 30 fps; delivery uses less
    "youtube": _bitrates(
        (1000, 360), (2500, 480), (5000, 720), (8000, 1080), (16000, 1440), (40000, 2160),
    ),
    # one size and codec, the whole useful range of the CRF
    "crf-sweep": Ladder(
        tuple(Rung(crf=crf, height_px=540) for crf in (18, 23, 28, 33, 38, 43, 48))
    ),
    # fixed rungs for sources of about 540p: every codec, by CRF and bitrate, down to a fifth
    "mixed-540p": Ladder(
        (
            *(Rung(crf=crf, height_px=540) for crf in (20, 35)),
            *_bitrates((500, 540), (350, 360), (200, 270), (80, 180)).rungs,
            Rung(codec="libx265", crf=30, height_px=540),
            Rung(codec="libx265", bitrate_kbps=250, height_px=360),
            Rung(codec="libsvtav1", crf=38, height_px=540),
            Rung(codec="libsvtav1", bitrate_kbps=120, height_px=270),
            Rung(codec="libvpx-vp9", crf=40, height_px=108),
            Rung(codec="libvpx-vp9", bitrate_kbps=300, height_px=432),
        )
    ),
    "training": _training(),
}  # fmt: skip
"""The named ladders; rungs larger than a source are left out when it is encoded."""


def ladder_named(name_or_file: str) -> Ladder:
    """The ladder of that name, or the one in that TOML file.

    A ladder file has a table `[[rung]]` with the fields of `Rung` for each rung. `[default]` holds
    fields that all rungs share, `num_rungs` makes the ladder adaptive (see `Ladder`):

        [default]
        codec = "libx265"

        [[rung]]
        height_px = 720
        bitrate_kbps = 3000

    Raises:
        LadderFileError: no such name or file, or an invalid value; the message names the place.
    """
    if name_or_file in LADDERS:
        return LADDERS[name_or_file]
    path = Path(name_or_file)
    if path.suffix != ".toml":
        names = ", ".join(LADDERS)
        raise LadderFileError(f"no ladder is named {name_or_file!r}: use {names}, or a .toml file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LadderFileError(f"{path} cannot be read as a ladder file: {error}") from error
    content = _with_current_keys(path, content)
    _refuse_unknown(str(path), content, _FILE_KEYS)
    tables, default = content.get("rung"), content.get("default", {})
    if not isinstance(tables, list) or not tables:
        raise LadderFileError(f"{path} has no rungs: write one [[rung]] table for each")
    _refuse_unknown(f"{path}, default", default, _RUNG_KEYS)
    rungs = [
        _rung(f"{path}, rung {number}", table, default) for number, table in enumerate(tables, 1)
    ]
    _refuse_twins(path, rungs)
    return Ladder(tuple(rungs), _num_rungs(path, content.get("num_rungs"), len(rungs)))


def with_codecs(ladder: Ladder, codecs: Iterable[str]) -> Ladder:
    """Every rung of `ladder` with each of `codecs`; the ladder itself if there are none.

    A CRF is converted in proportion to the largest CRF of both codecs.

    Raises:
        LadderFileError: a codec does not have the rate mode of a rung.
    """
    chosen = tuple(codecs)
    if not chosen:
        return ladder
    every = (_with_codec(rung, codec) for rung, codec in itertools.product(ladder.rungs, chosen))
    return replace(ladder, rungs=tuple(dict.fromkeys(every)))


def fitting(ladder: Ladder, display_size: tuple[int, int]) -> tuple[Rung, ...]:
    """The rungs that are not larger than a source of `display_size`."""
    return tuple(rung for rung in ladder.rungs if rung.height_px <= min(display_size))


def _with_codec(rung: Rung, codec: str) -> Rung:
    crf = rung.crf and max(1, round(rung.crf * CODECS[codec].max_crf / CODECS[rung.codec].max_crf))
    preset = rung.preset if codec == rung.codec else None  # each codec has presets of its own
    try:
        return replace(rung, codec=codec, crf=crf, preset=preset)
    except LadderFileError as error:
        raise LadderFileError(
            f"the rung {rung.name} is not possible with {codec}: {error}"
        ) from None


def _rung(where: str, table: object, default: dict[str, Any]) -> Rung:
    _refuse_unknown(where, table, _RUNG_KEYS)
    assert isinstance(table, dict)
    settings = default | table
    if "height_px" not in settings:
        raise LadderFileError(f"{where}: height_px is missing")
    if isinstance(settings.get("preset"), int):
        settings["preset"] = str(settings["preset"])  # SVT-AV1's and VP9's are numbers
    try:
        return Rung(**settings)
    except LadderFileError as error:
        raise LadderFileError(f"{where}: {error}") from error


def _with_current_keys(path: Path, content: Any) -> Any:
    """`content` with today's names of its keys, in all of its tables."""
    if isinstance(content, list):
        return [_with_current_keys(path, each) for each in content]
    if not isinstance(content, dict):
        return content
    for former in sorted(set(content) & set(_FORMER_KEYS)):
        if _FORMER_KEYS[former] in content:
            raise LadderFileError(
                f"{path}: {former} is the old name of {_FORMER_KEYS[former]}: use one"
            )
        warnings.warn(
            f"{path}: the key {former} is called {_FORMER_KEYS[former]} now; the next release "
            "will not read the old name",
            FutureWarning,
            stacklevel=3,
        )
    return {
        _FORMER_KEYS.get(key, key): _with_current_keys(path, value)
        for key, value in content.items()
    }


def _refuse_unknown(where: str, table: object, known: tuple[str, ...]) -> None:
    if not isinstance(table, dict):
        raise LadderFileError(f"{where}: not a table but {table!r}")
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise LadderFileError(f"{where}: unknown key {unknown[0]!r}; use {', '.join(known)}")


def _refuse_twins(path: Path, rungs: Iterable[Rung]) -> None:
    names: set[str] = set()
    for rung in rungs:
        if rung.name in names:
            raise LadderFileError(f"{path}: the rung {rung.name} is listed twice")
        names.add(rung.name)


def _num_rungs(path: Path, num_rungs: object, rung_count: int) -> int | None:
    if num_rungs is None:
        return None
    is_whole = isinstance(num_rungs, int) and not isinstance(num_rungs, bool)
    if not (is_whole and _MIN_NUM_RUNGS <= num_rungs <= rung_count):  # type: ignore[operator]
        raise LadderFileError(
            f"{path}: num_rungs is {num_rungs!r}, not a whole number from {_MIN_NUM_RUNGS} to the "
            f"{rung_count} rungs"
        )
    assert isinstance(num_rungs, int)
    return num_rungs
