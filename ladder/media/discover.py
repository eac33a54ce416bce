"""What a user names (files, folders, globs, lists) -> the video files there, in a stable order."""

import glob
import mimetypes
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from ladder.errors import ListError, VideoError
from ladder.media.probe import open_video

_MORE_SUFFIXES = frozenset({".ts", ".m2ts", ".mts", ".ivf", ".y4m", ".obu", ".vob", ".mxf", ".rm"})


# FFmpeg opens pictures too, and a plain text as a terminal's picture
_NO_VIDEO = re.compile(r"tty|image2|\w+_pipe|gif|apng|ico")


_STDIN = "-"


_LIST_MARK = "@"


@dataclass(frozen=True)
class DiscoveredFiles:
    """The video files, each once, how many other files were skipped, and folders without access."""

    videos: tuple[Path, ...]
    skipped_count: int
    unreadable: tuple[Path, ...] = ()


@dataclass(frozen=True)
class FileFilter:
    """Glob patterns of files: those of `include` (none: all), but none of `exclude`.

    A pattern is held against the name, or, where it has a slash, against the path below the folder
    that was named; `*` stands for slashes too.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def matches(self, below: str) -> bool:
        """Whether the file at this path below its folder counts."""
        is_included = not self.include or _matches(below, self.include)
        return is_included and not _matches(below, self.exclude)


ALL = FileFilter()


def expand_arguments(arguments: Iterable[str], stdin: BinaryIO) -> Iterator[Path]:
    """The paths behind what was typed.

    `@FILE` and `-` (`stdin`) are lists: one path a line, or with NUL between them as `find -print0`
    writes. What is no file is a glob (`**` for any depth); one that matches nothing stands for
    itself, as in a shell.

    Raises:
        ListError: a list cannot be read.
    """
    for argument in arguments:
        if argument == _STDIN:
            yield from _listed(stdin.read())
        elif argument.startswith(_LIST_MARK):
            yield from _list_file(Path(argument.removeprefix(_LIST_MARK)))
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            # Path.glob takes no absolute pattern
            matches = sorted(map(Path, glob.glob(argument, recursive=True)))  # noqa: PTH207
            yield from matches or [Path(argument)]
        else:
            yield Path(argument)


def find_videos(paths: Iterable[Path], wanted: FileFilter = ALL) -> DiscoveredFiles:
    """Every file named, and in every folder named (and below it) the files that are video.

    In a folder a file counts if its name says video, whatever is in it, or if its content is video,
    whatever its name says; hidden files and stages' own `.part` files are passed over. A named file
    always counts unless `wanted` leaves it out: whether it can be read is for the reader to say.
    """
    videos: list[Path] = []
    unreadable: list[Path] = []
    file_count = 0
    for path in paths:
        files = list(_files(path, unreadable)) if _is_folder(path) else [path]
        file_count += len(files)
        videos += _matching_files(path, files, wanted)
    return DiscoveredFiles(
        tuple(dict.fromkeys(videos)), file_count - len(videos), tuple(dict.fromkeys(unreadable))
    )


def _matching_files(path: Path, files: Iterable[Path], wanted: FileFilter) -> list[Path]:
    """Those of the files behind one `path` that count."""
    if not _is_folder(path):
        return [path] if wanted.matches(path.name) else []
    return [
        file
        for file in files
        if _is_shown(file) and wanted.matches(file.relative_to(path).as_posix()) and _is_video(file)
    ]


def _matches(below: str, patterns: Iterable[str]) -> bool:
    name = below.rpartition("/")[2]
    return any(fnmatchcase(below if "/" in each else name, each) for each in patterns)


def _list_file(path: Path) -> Iterator[Path]:
    try:
        return _listed(path.read_bytes())
    except OSError as error:
        raise ListError(f"the list {path} cannot be read: {error.strerror}") from error


def _listed(text: bytes) -> Iterator[Path]:
    lines = text.split(b"\0") if b"\0" in text else text.splitlines()
    # names need not be valid UTF-8
    return (Path(os.fsdecode(line)) for line in lines if line.strip())


def _files(
    folder: Path, unreadable: list[Path], above: frozenset[Path] = frozenset()
) -> Iterator[Path]:
    """All files below, and hidden folders as one entry each, which nothing is looked for in.

    A folder that the system does not let us list or enter is added to `unreadable`.
    """
    try:
        real = folder.resolve()
        entries = [] if real in above else sorted(folder.iterdir())
        is_folder = {path: _is_folder(path) for path in entries}
    except OSError:
        unreadable.append(folder)
        return
    for path in entries:
        if is_folder[path] and _is_shown(path):
            yield from _files(path, unreadable, above | {real})
        else:
            yield path


def _is_folder(path: Path) -> bool:
    """Whether the system says so; a path that it does not let us look at counts as a file."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    kind = mimetypes.guess_type(path.name)[0] or ""
    if suffix in _MORE_SUFFIXES or kind.startswith("video/"):
        return True
    if suffix == ".part":
        return False
    return _holds_video(path, decodes=bool(kind))


def _holds_video(path: Path, *, decodes: bool) -> bool:
    """Whether FFmpeg takes the content for video; where a name says otherwise, one frame of it."""
    try:
        with open_video(path) as (container, stream):
            if _NO_VIDEO.fullmatch(container.format.name):
                return False
            return not decodes or next(iter(container.decode(stream)), None) is not None
    except VideoError:
        return False
