"""Find the video files behind command line arguments: files, folders, globs and lists."""

import glob
import mimetypes
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, overload

from ladder.errors import ListError, RemoteError, VideoError
from ladder.media.container import frames_of, open_video
from ladder.media.dash import DASH_SUFFIX
from ladder.media.playlists import SegmentsNamed, is_playlist, parts, require_readable
from ladder.media.remote import RemotePath, as_path, require_access

_MORE_SUFFIXES = frozenset(
    {".3gp", ".3g2", ".ts", ".m2ts", ".mts", ".ivf", ".y4m", ".obu", ".vob", ".mxf", ".rm"}
)

# formats that FFmpeg opens but that are no video: still pictures, and text as terminal output
_NO_VIDEO = re.compile(r"tty|image2|\w+_pipe|gif|apng|ico")

_STDIN = "-"

_COMMENT = b"#"
_LIST_MARK = "@"


@dataclass(frozen=True)
class DiscoveredFiles:
    """The video files (each once), the number of skipped files, and the unreadable folders."""

    videos: Sequence[Path]
    skipped_count: int
    unreadable: tuple[Path, ...] = ()


@dataclass(frozen=True)
class FileFilter:
    """Glob patterns: a file must match one of `include` (empty: any file) and none of `exclude`.

    A pattern without a slash is matched with the file's name, a pattern with a slash with the path
    below the searched folder; `*` matches slashes too.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def matches(self, below: str) -> bool:
        """Whether the filter keeps the file at this path below its folder."""
        is_included = not self.include or _matches(below, self.include)
        return is_included and not _matches(below, self.exclude)


ALL = FileFilter()


def expand_arguments(arguments: Iterable[str], stdin: BinaryIO) -> Iterator[Path]:
    """The paths that command line arguments stand for.

    `@FILE` and `-` (`stdin`) are lists: one path per line, lines that begin with `#` left out; or
    paths separated by NUL as from `find -print0`. An argument that is not an existing path is a
    glob (`**` for any depth); a glob that matches nothing is kept as a path, as in a shell. A URL
    is a remote path, or, of a bucket, a glob.

    Raises:
        ListError: a list cannot be read.
        RemoteError: a bucket cannot be reached or listed.
    """
    for argument in arguments:
        if argument == _STDIN:
            yield from _listed(stdin.read())
        elif argument.startswith(_LIST_MARK):
            yield from _list_file(as_path(argument.removeprefix(_LIST_MARK)))
        elif isinstance(path := as_path(argument), RemotePath):
            require_access([path])
            yield from (path.matching() if path.is_pattern() else [path])
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            # Path.glob takes no absolute pattern
            matches = sorted(map(Path, glob.glob(argument, recursive=True)))  # noqa: PTH207
            yield from matches or [Path(argument)]
        else:
            yield Path(argument)


def find_videos(paths: Iterable[Path], wanted: FileFilter = ALL) -> DiscoveredFiles:
    """The files among `paths`, and the video files in and below the folders among `paths`.

    In a folder, a file is a video if it has the suffix of a video or if FFmpeg finds video in it.
    Hidden files, unfinished `.part` files and the files that a playlist names are skipped. A file
    named in `paths` is always included unless `wanted` excludes it; this function does not check
    that it can be read.
    """
    videos: list[Path | bytes] = []
    unreadable: list[Path] = []
    file_count = 0
    paths = list(paths)
    require_access(paths)
    for path in paths:
        if isinstance(path, RemotePath):
            num_files, found = _found_at(path, wanted)
            file_count += num_files
            videos += found
            continue
        files = list(_files(path, unreadable)) if _is_folder(path) else [path]
        file_count += len(files)
        videos += _matching_files(path, files, wanted)
    once = videos if len(paths) == 1 else list(dict.fromkeys(videos))
    plain = tuple(each for each in once if not isinstance(each, bytes))
    return DiscoveredFiles(
        plain if len(plain) == len(once) else FoundPaths(once),
        file_count - len(videos),
        tuple(dict.fromkeys(unreadable)),
    )


class FoundPaths(Sequence[Path]):
    """Paths of which those of a listing are packed: a million of them take some 160 MB."""

    def __init__(self, items: list[Path | bytes]) -> None:
        self._items = items

    @classmethod
    def of(cls, paths: Iterable[Path]) -> "FoundPaths":
        """The same paths."""
        items: list[Path | bytes] = []
        for path in paths:
            if isinstance(path, RemotePath) and path.is_known:
                items.append(path.packed())
            else:
                items.append(path)
        return cls(items)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "FoundPaths": ...
    def __getitem__(self, index: int | slice) -> "Path | FoundPaths":
        if isinstance(index, slice):
            return FoundPaths(self._items[index])
        item = self._items[index]
        return RemotePath.unpacked(item) if isinstance(item, bytes) else item


def _found_at(path: RemotePath, wanted: FileFilter) -> tuple[int, list[Path | bytes]]:
    """The number of files at a remote path, and the videos among them."""
    if _is_remote_folder(path):
        return _found_below(path, wanted)
    return 1, [path] if wanted.matches(path.name) else []


def _is_remote_folder(path: RemotePath) -> bool:
    """Whether to list below a remote path; one that is named like a video is not asked for."""
    try:
        return not _is_named_as_video(path) and path.is_dir()
    except RemoteError as error:
        if error.is_for_all:
            raise
        return False  # its row says why


def _found_below(folder: RemotePath, wanted: FileFilter) -> tuple[int, list[Path | bytes]]:
    """The number of objects below a prefix, and the videos among them, by their names alone."""
    count, videos = 0, list[bytes]()
    playlists: list[RemotePath] = []
    start = len(folder.address.rstrip("/")) + 1
    for path in folder.below():
        count += 1
        below = path.address[start:]
        if any(part.startswith(".") for part in below.split("/")) or not wanted.matches(below):
            continue
        if is_playlist(path):
            playlists.append(path)
        if is_playlist(path) or _is_named_as_video(path):
            videos.append(path.packed())
    if playlists:
        inside = SegmentsNamed(playlists)
        videos = [each for each in videos if str(RemotePath.unpacked(each)) not in inside]
    return count, [*videos]


def real_path(path: Path) -> Path:
    """The absolute path without links; a link in a circle stays, where `resolve` raises."""
    if isinstance(path, RemotePath):
        return path
    return Path(os.path.realpath(path))


def _matching_files(path: Path, files: Iterable[Path], wanted: FileFilter) -> list[Path]:
    """The video files among `files`, which were found at `path`, that `wanted` keeps."""
    if not _is_folder(path):
        return [path] if wanted.matches(path.name) else []
    files = [file for file in files if _is_shown(file)]
    inside: set[Path] = set()
    for file in files:
        # of playlists that name each other the first stays, and its row says so
        if is_playlist(file) and real_path(file) not in inside:
            inside |= {real_path(part) for part in parts(file)}
    return [
        file
        for file in files
        if wanted.matches(file.relative_to(path).as_posix())
        and not (inside and real_path(file) in inside)
        and _is_video(file)
    ]


def _matches(below: str, patterns: Iterable[str]) -> bool:
    name = below.rpartition("/")[2]
    return any(fnmatchcase(below if "/" in each else name, each) for each in patterns)


def _list_file(path: Path) -> Iterator[Path]:
    require_access([path])
    try:
        return _listed(path.read_bytes())
    except OSError as error:
        raise ListError(f"the list {path} cannot be read: {error.strerror}") from error


def _listed(text: bytes) -> Iterator[Path]:
    if b"\0" in text:
        lines = text.split(b"\0")
    else:
        lines = [line for line in text.splitlines() if not line.startswith(_COMMENT)]
    # file names may be invalid UTF-8
    return (as_path(os.fsdecode(line)) for line in lines if line.strip())


def _files(
    folder: Path, unreadable: list[Path], above: frozenset[Path] = frozenset()
) -> Iterator[Path]:
    """All files below `folder`; a hidden folder is one entry and is not searched.

    A folder that cannot be listed or entered is added to `unreadable`.
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
    """Whether `path` is a folder; a path without access counts as a file."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == DASH_SUFFIX:  # the representations of other manifests are videos by themselves
        return bool(parts(path))
    if is_playlist(path) and not _is_readable(path):
        return True  # its row says what is wrong
    if _is_named_as_video(path):
        return True
    if suffix == ".part":
        return False
    return _holds_video(path, decodes=bool(mimetypes.guess_type(path.name)[0]))


def _is_named_as_video(path: Path) -> bool:
    kind = mimetypes.guess_type(path.name)[0] or ""
    return path.suffix.lower() in _MORE_SUFFIXES or kind.startswith("video/")


def _is_readable(playlist: Path) -> bool:
    try:
        require_readable(playlist)
    except VideoError:
        return False
    return True


def _holds_video(path: Path, *, decodes: bool) -> bool:
    """Whether FFmpeg opens the file as video and, if `decodes`, decodes one frame of it."""
    try:
        with open_video(path) as (container, stream):
            if _NO_VIDEO.fullmatch(container.format.name):
                return False
            return not decodes or next(iter(frames_of(container, stream)), None) is not None
    except VideoError:
        return False
