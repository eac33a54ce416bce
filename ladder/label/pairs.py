"""Pairs of a source and an encode made elsewhere: as given, from a CSV, or matched by their names.

An encode made elsewhere has no rung that a ladder asked for: `rung_of` gives it one by what it is.
"""

import csv
import glob
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from pathlib import Path
from typing import BinaryIO

from ladder.errors import ListError
from ladder.label.rows import LabelRow
from ladder.media.discover import find_videos
from ladder.media.remote import path_in

STEM = "{stem}"
"""Stands for the name of a source without its suffix, in the pattern of `match_pairs`."""

_STDIN = Path("-")
_BANDS_PER_OCTAVE = 2


@dataclass(frozen=True)
class Pair:
    """An encode and the source it was made from; `rung` is "" where nobody named it."""

    source: Path
    encode: Path
    rung: str = ""


@dataclass(frozen=True)
class MatchedPairs:
    """What `match_pairs` found.

    Attributes:
        pairs: encodes with the one source that matches.
        ambiguous: encodes with the several sources that match.
        unmatched: encodes that no source matches.
        unused: sources without an encode.
    """

    pairs: tuple[Pair, ...]
    ambiguous: Mapping[Path, tuple[Path, ...]]
    unmatched: tuple[Path, ...]
    unused: tuple[Path, ...]


class RungBy(StrEnum):
    """What the rung of an encode made elsewhere is."""

    BITRATE = "bitrate"
    HEIGHT = "height"
    FOLDER = "folder"


def rung_of(label: LabelRow, encode: Path, by: RungBy) -> str:
    """The rung of an encode made elsewhere.

    By bitrate it is a band of half an octave, such as `1682-2378k`, whose bounds lie between the
    usual bitrates. By height it is the short side, such as `720p`. By folder it is the name of the
    folder that `encode` is in. "" if it is not known.
    """
    if by == RungBy.FOLDER:
        return encode.absolute().parent.name
    if by == RungBy.HEIGHT:
        height_px = min(label.width_px or 0, label.height_px or 0)
        return f"{height_px}p" if height_px else ""
    if not label.bitrate_kbps:
        return ""
    band = round(_BANDS_PER_OCTAVE * math.log2(label.bitrate_kbps / 1000))  # 1000k is a middle
    low, high = (1000 * 2 ** ((band + side) / _BANDS_PER_OCTAVE) for side in (-0.5, 0.5))
    return f"{low:.0f}-{high:.0f}k"


def pairs_with(source: Path, encodes: Sequence[Path]) -> tuple[Pair, ...]:
    """Each encode with the same source, which is left out where it is among others."""
    others = [encode for encode in encodes if not _is_same(encode, source)]
    return tuple(Pair(source, encode) for encode in others or encodes)


def read_pairs(path: Path, stdin: BinaryIO) -> tuple[Pair, ...]:
    """The pairs of a CSV with the columns `source` and `encode`, and `rung` where it has one.

    Relative paths are relative to the folder of the CSV; of `-`, which is `stdin`, to the current
    one.

    Raises:
        ListError: the file cannot be read, lacks a column or a cell, or has no pair.
    """
    try:
        content = stdin.read() if path == _STDIN else path.read_bytes()
    except OSError as error:
        raise ListError(f"the pairs {path} cannot be read: {error.strerror}") from error
    text = content.decode("utf-8-sig", "surrogateescape")  # names of files may be any bytes
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"source", "encode"} - set(reader.fieldnames or ())
    if missing:
        raise ListError(
            f"{path} has the columns {','.join(reader.fieldnames or ()) or '(none)'}: write the "
            "columns source,encode (and rung, if the encodes have rungs) in its first line"
        )
    pairs = []
    for row in reader:
        source, encode = row["source"], row["encode"]
        if not source or not encode:
            raise ListError(f"{path}, line {reader.line_num} lacks a source or an encode")
        source_path, encode_path = (path_in(path.parent, each) for each in (source, encode))
        pairs.append(Pair(source_path, encode_path, row.get("rung") or ""))
    if not pairs:
        raise ListError(f"{path} has no pair: write a line of source,encode for each")
    return tuple(pairs)


def match_pairs(sources: Sequence[Path], encodes: Mapping[Path, str], pattern: str) -> MatchedPairs:
    """Pair each encode with the source whose name stands in its own.

    A file that is a source and an encode at once, because both are in one folder, is never paired
    with itself and is named as unmatched only if it has no part in any pair.

    Args:
        sources: the sources.
        encodes: the encodes, each with its path below the folder that was searched.
        pattern: such as `{stem}_*`: `{stem}` stands for the source's name without suffix, `*` and
            `?` for any letters. A pattern without a slash is compared with the encode's name, with
            or without its suffix; one with a slash with its path below the folder.

    Raises:
        ValueError: the pattern has no `{stem}`.
    """
    if STEM not in pattern:
        raise ValueError(f"{pattern!r} has no {STEM}, which stands for the name of the source")
    patterns = [(source, _compiled(pattern, source.stem)) for source in sources]
    pairs: list[Pair] = []
    ambiguous: dict[Path, tuple[Path, ...]] = {}
    unmatched: list[Path] = []
    for encode, below in encodes.items():
        names = _compared_names(below, has_folder="/" in pattern)
        found = [
            source
            for source, compiled in patterns
            if any(map(compiled.match, names)) and not _is_same(source, encode)
        ]
        if len(found) == 1:
            pairs.append(Pair(found[0], encode))
        elif found:
            ambiguous[encode] = tuple(found)
        else:
            unmatched.append(encode)
    taken = {path.absolute() for pair in pairs for path in (pair.source, pair.encode)}
    taken |= {path.absolute() for named in ambiguous.items() for path in (named[0], *named[1])}
    return MatchedPairs(
        tuple(pairs),
        ambiguous,
        tuple(path for path in unmatched if path.absolute() not in taken),
        tuple(path for path in sources if path.absolute() not in taken),
    )


def find_below(paths: Iterable[Path]) -> tuple[dict[Path, str], tuple[Path, ...]]:
    """The videos at `paths`, each with its path below the folder given, and unreadable folders.

    A file that is given itself is as if its whole path were below.
    """
    below: dict[Path, str] = {}
    unreadable: list[Path] = []
    for path in paths:
        found = find_videos([path])
        unreadable += found.unreadable
        for video in found.videos:
            is_inside = video != path
            below.setdefault(video, (video.relative_to(path) if is_inside else video).as_posix())
    return below, tuple(dict.fromkeys(unreadable))


def _compiled(pattern: str, stem: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace(STEM, glob.escape(stem))))


def _compared_names(below: str, *, has_folder: bool) -> tuple[str, ...]:
    if has_folder:
        # of a file that was given by its path, the pattern may be the end alone
        parts = below.split("/")
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        return tuple(name for end in ends for name in (end, end.rpartition(".")[0]))
    path = Path(below)
    return path.name, path.stem


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.absolute() == other.absolute() or one.samefile(other)
    except OSError:
        return False
