"""What FFmpeg logs while it runs in this process, line by line."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import av.logging

ERROR, INFO = av.logging.ERROR, av.logging.INFO
"""Levels of its lines, the more important the lower."""

LogLine = tuple[int, str, str]
"""Its level, who wrote it, its text."""

_LOGGING = threading.RLock()  # its level is the process's

CODECS_THAT_FORGET = frozenset({"h264"})
"""Their streams tell the decoder which frames to forget, which in open groups of pictures may be
frames that it never saw after a seek: strict decoders call that damage."""

_HARMLESS = "mmco: unref short failure"  # where frames were lost, another line says so


@contextlib.contextmanager
def ffmpeg_log(level: int) -> Iterator[list[LogLine]]:
    """What FFmpeg logs in this thread up to a level, to be taken from the list.

    One thread at a time, and no decoder of several threads may be alive in this process.
    """
    with _LOGGING, _at(level), av.logging.Capture(local=True) as lines:
        yield lines


def tell_damage(lines: Sequence[LogLine]) -> bool:
    """Whether the errors of a lenient decoder are those of a damaged file.

    Call it where a strict decoder failed: then no line at all means that something is wrong.
    """
    errors = [text.strip() for level, _, text in lines if level <= ERROR]
    return not errors or any(text != _HARMLESS for text in errors)


@contextlib.contextmanager
def _at(level: int) -> Iterator[None]:
    before, skipped = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(level)
    av.logging.set_skip_repeated(False)  # equal lines are equal elements of two headers
    try:
        yield
    finally:
        av.logging.set_skip_repeated(skipped)
        av.logging.set_level(before)
