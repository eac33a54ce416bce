"""Manifests of DASH (ISO/IEC 23009-1): the files of the best video, as one address for FFmpeg.

PyAV has no reader of them. A segment of MP4 or WebM is a part of a file, so the one that
initialises and those that follow are a whole one in their order, which `concat:` reads.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as Xml

from ladder.errors import VideoError

DASH_SUFFIX = ".mpd"
"""Of manifests, in lower case."""

_MAX_BYTES = 2**24  # a larger file is no manifest
_MAX_FILES = 900  # FFmpeg opens all of them
_MAX_SEGMENTS = 2**17  # of a representation that is passed over
_NUM_BEYOND = 3  # segments that are looked for after a missing one
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?")
_PLACE = re.compile(r"\$(RepresentationID|Number|Time|Bandwidth)?(?:%0(\d{1,2})d)?\$")
_SEGMENTED = ("{*}SegmentTemplate", "{*}SegmentList")
_MAX_MISSING_S = 0.5  # segments may be a bit shorter than a manifest says

_Nested = list[Xml.Element]  # each inside the one before: manifest, period, set, representation


def dash_files(manifest: Path) -> list[Path]:
    """The local files of the video with the highest bitrate, in their order.

    Raises:
        VideoError: it is no manifest, has several periods, or a segment that it names is not here.
    """
    named = itertools.islice(_files(manifest, _best(manifest)), _MAX_FILES + 1)
    files = list(dict.fromkeys(named))
    if missing := next((file for file in files if not file.is_file()), None):
        raise VideoError("damaged", f"{manifest} names {missing}, which is not here")
    if len(files) > _MAX_FILES or any("|" in str(file) for file in files):
        _refuse(manifest, f"has more than {_MAX_FILES} segments, or names with '|'")
    return files


def segment_files(manifest: Path) -> Iterator[Path]:
    """The files of all representations that have segments; none if it cannot be read."""
    with contextlib.suppress(VideoError, OSError):
        root = _parsed(manifest)
        for period in root.iterfind("{*}Period"):
            for nested in _representations([root, period]):
                if any(each.find(name) is not None for each in nested for name in _SEGMENTED):
                    named = itertools.islice(_files(manifest, nested), _MAX_SEGMENTS)
                    yield from (file for file in named if file.is_file())


def require_all_segments(manifest: Path, length_s: float) -> None:
    """Raise VideoError if numbered segments of a manifest are less than it says.

    Those of a list or a timeline are missed one by one.
    """
    best = _best(manifest)
    found = _DURATION.fullmatch(best[0].get("mediaPresentationDuration", ""))
    units = zip(found.groups() if found else (), (86400, 3600, 60, 1), strict=False)
    stated_s = sum(float(amount) * unit for amount, unit in units if amount)
    templates = _inside(best, "SegmentTemplate")
    if templates and _is_open(templates) and stated_s - length_s > _MAX_MISSING_S:
        reason = f"has segments of {length_s:.2f} s, and says that there are {stated_s:.2f} s"
        raise VideoError("damaged", f"{manifest} {reason}")


def _best(manifest: Path) -> _Nested:
    """The representation of the video with the highest bitrate."""
    root = _parsed(manifest)
    periods = root.findall("{*}Period")
    if len(periods) != 1:
        _refuse(manifest, f"has {len(periods)} periods, of which one alone can be read")
    videos = filter(_is_video, _representations([root, periods[0]]))
    best = max(videos, key=_bandwidth, default=None)
    if best is None:
        _refuse(manifest, "names no video")
    return best


def _inside(nested: _Nested, name: str) -> _Nested:
    """The elements of a name in each of the nested ones, the outer first."""
    return [each for outer in nested for each in outer.iterfind(f"{{*}}{name}")]


def _is_open(templates: _Nested) -> bool:
    """Whether a template has as many segments as there are files."""
    entries = _inside(templates, "SegmentTimeline/{*}S")
    return not entries or any(each.get("r", "0").startswith("-") for each in entries)


def _parsed(manifest: Path) -> Xml.Element:
    content = manifest.read_bytes() if manifest.stat().st_size <= _MAX_BYTES else b""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # may grow without end, or name files
        _refuse(manifest, "declares a document type")
    try:
        root = Xml.fromstring(content)
    except Xml.ParseError as error:
        raise VideoError("not_video", f"{manifest} is no manifest of DASH: {error}") from error
    if root.tag.rpartition("}")[2] != "MPD":
        raise VideoError("not_video", f"{manifest} is no manifest of DASH")
    return root


def _refuse(manifest: Path, reason: str) -> NoReturn:
    next_step = f"ffmpeg -i {manifest.name} -map 0:v -c copy {manifest.stem}.mp4"
    reason = f"{reason}: copy its video into one file first ({next_step})"
    raise VideoError("not_video", f"{manifest} {reason}")


def _representations(outer: _Nested) -> Iterator[_Nested]:
    for group in outer[-1].iterfind("{*}AdaptationSet"):
        yield from ([*outer, group, each] for each in group.iterfind("{*}Representation"))


def _is_video(nested: _Nested) -> bool:
    said = (each.get(key, "") for each in nested for key in ("contentType", "mimeType"))
    return any(kind.startswith("video") for kind in said)


def _bandwidth(nested: _Nested) -> int:
    return _number(nested[-1].get("bandwidth", ""))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _files(manifest: Path, nested: _Nested) -> Iterator[Path]:
    """The files in order; one that is named in parts is taken as a whole."""
    templates, listed = _inside(nested, "SegmentTemplate"), _inside(nested, "SegmentList/*")
    if not templates:
        for each in listed or [Xml.Element("SegmentURL")]:
            name = each.get("sourceURL") or each.get("media") or ""
            yield _file(manifest, nested, name)
        return
    template: dict[str, str] = {}
    for each in templates:
        template |= each.attrib  # what is said inside counts
    known = {"RepresentationID": nested[-1].get("id", ""), "Bandwidth": str(_bandwidth(nested))}
    if "initialization" in template:
        yield _file(manifest, nested, _filled(template["initialization"], known))
    media = template.get("media", "")
    segments = enumerate(_times(templates), _number(template.get("startNumber", "1")))
    names = (_filled(media, {**known, "Number": str(n), "Time": str(time)}) for n, time in segments)
    files = (_file(manifest, nested, name) for name in names)
    yield from _existing(files) if _is_open(templates) else files


def _existing(files: Iterator[Path]) -> Iterator[Path]:
    """Those that exist, and a missing one only if it is the first, or one soon after it exists."""
    for index, file in enumerate(files):
        if not file.is_file():
            beyond = itertools.islice(files, _NUM_BEYOND)
            if not index or any(later.is_file() for later in beyond):
                yield file
            return
        yield file


def _times(templates: _Nested) -> Iterator[int]:
    """When the segments begin, in ticks of a timeline; 0 for each where there is none."""
    entries, time = _inside(templates, "SegmentTimeline/{*}S"), 0
    for entry in entries:
        time = _number(entry.get("t", str(time)))
        repeats = entry.get("r", "0")  # negative: as long as there are segments
        for _ in itertools.count() if repeats.startswith("-") else range(1 + _number(repeats)):
            yield time
            time += _number(entry.get("d", ""))
    yield from () if entries else itertools.repeat(0)


def _filled(template: str, known: dict[str, str]) -> str:
    return _PLACE.sub(lambda m: known[m[1]].zfill(int(m[2] or 0)) if m[1] else "$", template)


def _file(manifest: Path, nested: _Nested, name: str) -> Path:
    """The local file of a name, from the addresses on that hold for it."""
    folder = manifest.parent
    for part in [*(outer.findtext("{*}BaseURL") or "" for outer in nested), name]:
        address = urlsplit(part.strip())
        if address.scheme or address.netloc or "%00" in part or "\0" in part:
            _refuse(manifest, f"names {part!r}, which is no local file")
        if address.path:
            folder = (folder if folder.is_dir() else folder.parent) / unquote(address.path)
    return folder
