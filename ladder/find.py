"""Files and folders named by a user -> the video files in them, in a stable order."""

import mimetypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import VideoError
from ladder.probe import open_video

_MORE_SUFFIXES = frozenset({".ts", ".m2ts", ".mts", ".ivf", ".y4m", ".obu", ".vob", ".mxf", ".rm"})


@dataclass(frozen=True)
class Found:
    """The files to look at, each once, and how many others were passed over."""

    videos: tuple[Path, ...]
    skipped_count: int


def find_videos(paths: Iterable[Path]) -> Found:
    """Every file named, and in every folder named (and below it) the files that may be video.

    In a folder a file counts by its name (video or audio) or, with a suffix that says nothing, by
    its content; hidden files and stages' own `.part` files are passed over. A named file always
    counts: whether it can be read is for the reader to say.
    """
    videos: list[Path] = []
    skipped = 0
    for path in paths:
        if not path.is_dir():
            videos.append(path)
            continue
        for file in _files(path):
            if _may_be_video(file):
                videos.append(file)
            else:
                skipped += 1
    return Found(tuple(dict.fromkeys(videos)), skipped)


def _files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path, above | {real})
        elif path.is_file():
            yield path


def _may_be_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in _MORE_SUFFIXES:
        return True
    kind, _ = mimetypes.guess_type(path.name)
    if kind:
        return kind.startswith(("video/", "audio/"))
    return suffix != ".part" and _opens(path)


def _opens(path: Path) -> bool:
    try:
        with open_video(path) as (container, _):
            # FFmpeg opens a plain text as a terminal's picture
            return container.format.name != "tty"
    except VideoError:
        return False
