"""Videos that a program makes with ffmpeg, one process each: whole or not at all, each once."""

import contextlib
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ladder.errors import LadderError
from ladder.media.ffmpeg import Ffmpeg, allocate_workers, file_url, run, run_parallel
from ladder.media.probe import FILE_FAULTS, probe
from ladder.storage import part_of, remove_parts, work_lock

_TIMEOUT_S = 900.0
_REPORT_EVERY = 50  # videos
SOME_FAILED = 4
"""Exit code, as of `vqatool ladder`."""

_MIN_LENGTH_SHARE = 0.9  # of the length that is wanted: a damaged original ends early
_MIN_HEIGHT_PX = 16


class VideoCommand(NamedTuple):
    """ffmpeg's arguments that make a video, without its file, and how long it shall be."""

    arguments: Sequence[str]
    duration_s: float


CommandFactory = Callable[[], VideoCommand]
"""Gives the command of one video; may raise one of `FILE_FAULTS`."""


def make_missing(
    folder: Path, videos: Mapping[str, CommandFactory], ffmpeg: Ffmpeg, *, jobs: int | None = None
) -> Generator[tuple[Path, Exception | None]]:
    """Make the videos that the folder lacks; yields the path of each as it is done.

    A video that cannot be made leaves no file, and comes with the reason.

    Args:
        folder: for the videos.
        videos: name of a file -> what makes it.
        ffmpeg: program to run.
        jobs: videos at once; None: one for each core, four at most.

    Raises:
        LockedError: another run uses the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with work_lock(folder):
        remove_parts(folder)
        there = {path.name for path in folder.iterdir()}
        missing = [folder / name for name in videos if name not in there]
        num_processes, _ = allocate_workers(jobs)
        yield from run_parallel(
            lambda path: (path, _make(path, videos[path.name], ffmpeg)), missing, num_processes
        )


def _make(path: Path, make_command: CommandFactory, ffmpeg: Ffmpeg) -> Exception | None:
    part = part_of(path)
    try:
        written = ["-map_metadata", "-1", "-f", "mp4", file_url(part)]
        arguments, duration_s = make_command()
        run(ffmpeg, ["-y", *arguments, *written], timeout_s=_TIMEOUT_S)
        made_s = probe(part).duration_s
        if made_s < _MIN_LENGTH_SHARE * duration_s:
            raise LadderError(f"only {made_s:.2f} of {duration_s:.2f} s could be read")
        part.replace(path)
    except FILE_FAULTS as error:
        with contextlib.suppress(OSError):
            part.unlink()
        return error
    return None


def one_for_each_name(
    paths: Iterable[Path],
) -> tuple[dict[str, Path], list[tuple[Path, Exception]]]:
    """Files by the name of the video that is made of each, and those whose name is taken."""
    named: dict[str, Path] = {}
    refused: list[tuple[Path, Exception]] = []
    for path in paths:
        first = named.setdefault(f"{path.stem}.mp4", path)
        if first != path:
            error = LadderError(f"{first} has the same name: rename one of them")
            refused.append((path, error))
    return named, refused


def add_common_options(parser: ArgumentParser, height_px: int | None = None) -> None:
    """The options that all programs with such videos have; a default height: one for it, too."""

    def height(text: str) -> int:
        if not text.isdecimal() or int(text) < _MIN_HEIGHT_PX or int(text) % 2:
            raise ArgumentTypeError(f"{text}: give an even number of at least {_MIN_HEIGHT_PX}")
        return int(text)

    def jobs(text: str) -> int:
        if not text.isdecimal() or not int(text):
            raise ArgumentTypeError(f"{text}: give a number of at least 1")
        return int(text)

    if height_px:
        parser.add_argument(
            "--height", type=height, default=height_px, help=f"lines; default: {height_px}"
        )
    parser.add_argument("--jobs", type=jobs, help="videos at once; default: one for each core")


def report_progress(folder: Path, made: Iterable[tuple[Path, Exception | None]]) -> int:
    """The exit code; on stderr what is made, what fails and what ends the run."""
    num_made = num_failed = 0
    try:
        for path, error in made:
            num_made += error is None
            num_failed += error is not None
            if error:
                sys.stderr.write(f"{path}: {error}\n")
            elif num_made % _REPORT_EVERY == 0:
                sys.stderr.write(f"{num_made} videos made, {num_failed} failed\n")
    except (LadderError, OSError) as fault:  # the folder cannot be used
        sys.stderr.write(f"{folder}: {fault}\n")
        return SOME_FAILED
    sys.stderr.write(f"{folder}: {num_made} videos made, {num_failed} failed\n")
    return SOME_FAILED if num_failed else 0
