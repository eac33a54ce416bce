"""Playlists of HLS and DASH: which files are parts of them, and how FFmpeg reads them to an end.

A playlist (RFC 8216) or a manifest (ISO/IEC 23009-1) and the files that it names are one video.
"""

import glob
import html
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ladder.errors import VideoError
from ladder.media.dash import DASH_SUFFIX, dash_files, segment_files

SUFFIXES = frozenset({".m3u8", ".m3u", DASH_SUFFIX})
"""Of playlists, in lower case; a player's list has them too, and names no parts."""

HLS_FORMAT = "hls"
"""FFmpeg's name of the format."""

HLS_OPTIONS = {
    "live_start_index": "0",  # else a playlist without an end begins near its end
    # and FFmpeg waits for further segments, by default for hours; 1 would refuse whole playlists
    "m3u8_hold_counters": "3",
    "max_reload": "3",
}
"""Options of FFmpeg's reader that end a playlist without #EXT-X-ENDLIST after its last segment."""

_MAX_BYTES = 2**24  # a larger file is no playlist
_HLS_URI = re.compile(r'URI="([^"]+)"')
_HLS_TAGS = ("#EXT-X-TARGETDURATION", "#EXT-X-STREAM-INF", "#EXT-X-MEDIA-SEQUENCE")
_NEEDED_TAGS = ("#EXT-X-MAP:", "#EXT-X-MEDIA:")
_DASH_NAMES = re.compile(r"\b(media|initialization)\s*=\s*([\"'])(.+?)\2")
_DASH_PLACE = re.compile(r"\$[^$]*\$")


def is_playlist(path: Path) -> bool:
    """Whether the name is that of a playlist."""
    return path.suffix.lower() in SUFFIXES


def parts(playlist: Path) -> set[Path]:
    """The existing local files that a playlist names, and those that playlists among them name."""
    found: set[Path] = set()
    waiting = [playlist]
    while waiting:
        new = set(_named(waiting.pop())) - found - {playlist}
        found |= new
        waiting += [path for path in new if is_playlist(path)]
    return found


class SegmentsNamed:
    """The files that playlists name in or below their folders, whether they exist or not.

    A file is asked for by the text of its path. A template of DASH stands for many files, and is
    compared with those that are in or below its folder alone.
    """

    def __init__(self, playlists: Iterable[Path]) -> None:
        self._paths: set[str] = set()
        self._templates: defaultdict[str, list[re.Pattern[str]]] = defaultdict(list)
        for playlist in playlists:
            text, folder = _text(playlist), str(playlist.parent)
            is_dash = playlist.suffix.lower() == DASH_SUFFIX
            for name in map(_local, _dash_names(text) if is_dash else _hls_names(text)):
                if is_dash and "$" in name:
                    pieces = map(re.escape, _DASH_PLACE.split(name))
                    self._templates[folder].append(re.compile("[^/]*".join(pieces)))
                elif name:
                    self._paths.add(str(playlist.parent / name))

    def __contains__(self, path: str) -> bool:
        if path in self._paths:
            return True
        folder = path
        while self._templates and "/" in folder:
            folder = folder.rpartition("/")[0]
            below = path[len(folder) + 1 :]
            if any(each.fullmatch(below) for each in self._templates.get(folder, ())):
                return True
        return False


def require_readable(playlist: Path) -> None:
    """Raise VideoError for a playlist of HLS that FFmpeg would read forever, or without a segment.

    That is one that names itself, perhaps by others, or a segment that is not there.
    """
    graph: dict[str, set[str]] = {}
    waiting = [os.path.realpath(playlist)]  # of links in a circle too
    while waiting:
        each = Path(waiting.pop())
        if str(each) not in graph:
            names = map(_local, _needed(_text(each)))
            lists = {os.path.realpath(each.parent / n) for n in names if is_playlist(Path(n))}
            graph[str(each)] = lists
            waiting += lists
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        loop = " > ".join(Path(path).name for path in error.args[1])
        raise VideoError("damaged", f"{playlist} names itself: {loop}") from error
    text = _text(playlist)
    if "#EXTINF" in text and "#EXT-X-GAP" not in text:
        for name in _needed(text):
            # a name may be longer than names of files can be
            if (plain := _local(name)) and not os.path.exists(playlist.parent / plain):  # noqa: PTH110
                raise VideoError("damaged", f"{playlist} names {plain}, which is not here")


def size_bytes(path: Path) -> int:
    """The bytes of a video: of a playlist those of the files that it names, or its best variant."""
    own = path.stat().st_size
    if not is_playlist(path):
        return own
    if path.suffix.lower() == DASH_SUFFIX:
        return _sum(dash_files(path))
    named = set(_named(path)) - {path}
    # variants name segments, and no further playlists
    sizes = [_sum(set(_named(each))) for each in named if is_playlist(each)]
    return max(sizes, default=0) or _sum(named) or own


def _sum(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if not is_playlist(path))


def _text(playlist: Path) -> str:
    """The playlist; empty where it cannot be read."""
    try:
        # nobody may ever write to a pipe of that name
        if not playlist.is_file() or playlist.stat().st_size > _MAX_BYTES:
            return ""
        return playlist.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _named(playlist: Path) -> Iterator[Path]:
    text = _text(playlist)
    if not text:
        return
    is_dash = playlist.suffix.lower() == DASH_SUFFIX
    if is_dash:
        yield from segment_files(playlist)
    names = _dash_names(text) if is_dash else _hls_names(text)
    for name in names:
        yield from _files(playlist.parent, name)


def _hls_names(text: str) -> Iterator[str]:
    if not any(tag in text for tag in _HLS_TAGS):
        return  # a list of files for a player
    for line in text.splitlines():
        if not line.startswith("#"):
            yield line.strip()
        elif found := _HLS_URI.search(line):
            yield found[1]


def _needed(text: str) -> Iterator[str]:
    """What a reader opens: no list of key frames, and no part that is announced."""
    if any(tag in text for tag in _HLS_TAGS):
        for line in text.splitlines():
            if not line.startswith("#"):
                yield line.strip()
            elif line.startswith(_NEEDED_TAGS) and (found := _HLS_URI.search(line)):
                yield found[1]


def _dash_names(text: str) -> Iterator[str]:
    """Names of segments; a file that is a whole representation is a video of its own."""
    for kind, _, quoted in _DASH_NAMES.findall(text):
        name = html.unescape(quoted)
        if kind == "initialization" or "$Number" in name or "$Time" in name:
            yield name


def _files(folder: Path, name: str) -> Iterator[Path]:
    """The existing files below `folder` that a name, or a template of DASH, stands for."""
    plain = _local(name)
    if not plain:
        return
    try:
        if "$" in plain:
            pieces = map(glob.escape, _DASH_PLACE.split(plain))
            pattern = "*".join(pieces)
            if Path(pattern).suffix:  # else it would stand for any file
                yield from sorted(folder.glob(pattern))
        elif (folder / plain).is_file():
            yield folder / plain
    except (OSError, ValueError, NotImplementedError):  # no name of a file here
        return


def _local(name: str) -> str:
    """The path of a file here that a name stands for; empty if it stands for none."""
    try:
        address = urlsplit(name)
    except ValueError:  # such as a host that is no address
        return ""
    plain = unquote(address.path)
    is_far = address.scheme or address.netloc
    return "" if is_far or plain.endswith("/") or "\0" in plain else plain
