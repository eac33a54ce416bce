"""The videos to score: those that were found, each once, and at least one of them is there."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ladder.errors import RemoteError
from ladder.media.discover import ALL, DiscoveredFiles, FileFilter, find_videos
from ladder.media.remote import RemotePath
from vqatool.errors import NoVideoError


def videos_to_score(paths: Iterable[Path], wanted: FileFilter = ALL) -> DiscoveredFiles:
    """The videos that `find_videos` finds, where two spellings of one path are one video.

    A path that is not there is among them, and gets a row with the reason, unless all are not
    there: then the list is wrong, and no report should lose its rows for it.

    Raises:
        NoVideoError: none of `paths` exists.
    """
    paths = list(paths)
    found = find_videos(paths, wanted)
    if found.videos and not any(map(_is_there, found.videos)):
        raise NoVideoError(_missing(paths))
    if len(paths) == 1:  # a folder has no file twice
        return found
    return replace(found, videos=_each_once(found.videos))


def _is_there(path: Path) -> bool:
    """Whether a path names something, be it a broken link or a file without access."""
    try:
        if isinstance(path, RemotePath):
            path.facts()
        else:
            path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, RemoteError):
        return True  # its row says why it cannot be read
    return True


def _missing(paths: Sequence[Path]) -> str:
    first = str(paths[0])
    if len(paths) > 1:
        told = f"none of the {len(paths)} paths exists, the first is {first}"
    elif glob.has_magic(first):
        told = f"no file matches {first}"
    else:
        told = f"{first} does not exist"
    return f"{told}: check the path; no report was changed"


def _each_once(videos: Sequence[Path]) -> Sequence[Path]:
    """The videos, without further spellings of a path, such as `./a.mp4` of `a.mp4`.

    Links are files of their own, as where they lie in a folder.
    """
    first: dict[str, Path] = {}
    twice = set(_twice(videos, first))
    return [path for path in videos if path not in twice] if twice else videos


def _twice(videos: Iterable[Path], first: dict[str, Path]) -> Iterator[Path]:
    for path in videos:
        if isinstance(path, RemotePath):
            continue
        before = first.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - resolves no link
        # where a folder is a link, the folder above it is not what the text says
        if before is not path and os.path.realpath(before) == os.path.realpath(path):
            yield path
