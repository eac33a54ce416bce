"""Transport streams: videos that begin after the start, as where recordings were joined.

FFmpeg reads the streams that it finds at the start, each as what its identifier means there. The
format is that of ISO/IEC 13818-1, section 2.4.3.
"""

from collections.abc import Iterator, Set
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ladder.errors import VideoError

TS_FORMAT = "mpegts"
"""FFmpeg's name of the format."""

_MAX_TAIL_BYTES = 2**22
_PACKETS_AT_ONCE = 2**14
_PACKET_SIZES = (188, 192, 204)  # plain, with times (M2TS), with error correction
_NUM_SYNCS = 5  # that make a grid certain
_SYNC, _HAS_START, _HAS_ADAPTATION, _HAS_PAYLOAD = 0x47, 0x40, 0x20, 0x10
_PES_START = b"\0\0\1"
_VIDEO_IDS = range(0xE0, 0xF0)


def require_first_streams(path: Path, first: Set[int]) -> None:
    """Raise VideoError if the last 4 MiB hold a video that is none of the first streams.

    Args:
        path: a transport stream.
        first: the identifiers of the streams at its beginning.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_TAIL_BYTES))
        tail = file.read(_MAX_TAIL_BYTES)
    late = next((found for found in _video_ids(tail) if found not in first), None)
    if late is not None:
        raise VideoError(
            "damaged",
            f"{path} has a video that begins after its start (PID {late:#x}), as where recordings "
            "were joined: copy each into a file of its own (ffmpeg -probesize 2G -analyzeduration "
            f"1G -i {path.name} -map 0:v:1 -c copy {path.stem}-2.ts; 0:v:0 is the first)",
        )


class FirstVideo(NamedTuple):
    """The identifier of the first picture, and the byte of the program's table before it.

    FFmpeg has to read that table first.
    """

    identifier: int
    table_at: int


def first_video(path: Path) -> FirstVideo | None:
    """Where the first picture of a transport stream is, which may be late; None: it has none."""
    with path.open("rb") as file:
        place, step = _grid(file.read(_MAX_TAIL_BYTES))
        file.seek(place)
        table_at = 0
        while block := file.read(step * _PACKETS_AT_ONCE):
            for at in range(0, len(block) - 188 + 1, step):
                if not block[at + 1] & 0x1F and not block[at + 2]:
                    table_at = place + at
                if (video := _video_id(block, at)) is not None:
                    return FirstVideo(video, table_at)
            place += len(block)
    return None


def _video_ids(content: bytes) -> Iterator[int]:
    """The identifier of each packet in which a picture begins."""
    start, step = _grid(content)
    for at in range(start, len(content) - 188 + 1, step):
        if (found := _video_id(content, at)) is not None:
            yield found


def _video_id(content: bytes, at: int) -> int | None:
    """The identifier of the packet at a place; None: no picture begins in it."""
    sync, high, low, flags = content[at : at + 4]
    if sync != _SYNC or not high & _HAS_START or not flags & _HAS_PAYLOAD:
        return None
    payload = at + 4 + (1 + content[at + 4] if flags & _HAS_ADAPTATION else 0)
    head = content[payload : payload + 4]
    is_picture = head[:3] == _PES_START and bool(head[3:]) and head[3] in _VIDEO_IDS
    return (high & 0x1F) << 8 | low if is_picture else None


def _grid(content: bytes) -> tuple[int, int]:
    """Where the first packet begins, and how far apart packets are."""
    for start in range(max(_PACKET_SIZES)):
        for size in _PACKET_SIZES:
            marks = list(islice(content[start::size], _NUM_SYNCS))
            if len(marks) == _NUM_SYNCS and set(marks) == {_SYNC}:
                return start, size
    return 0, _PACKET_SIZES[0]
