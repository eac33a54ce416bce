"""Transport streams: whether the videos at the end are those of the beginning.

Where recordings with other packet identifiers were joined, FFmpeg reads the first one alone. The
format is that of ISO/IEC 13818-1, section 2.4.3.
"""

from collections.abc import Iterator, Set
from itertools import islice
from pathlib import Path

from ladder.errors import VideoError

TS_FORMAT = "mpegts"
"""FFmpeg's name of the format."""

_MAX_TAIL_BYTES = 2**22
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


def _video_ids(content: bytes) -> Iterator[int]:
    """The identifier of each packet in which a picture begins."""
    start, step = _grid(content)
    for at in range(start, len(content) - 188 + 1, step):
        sync, high, low, flags = content[at : at + 4]
        if sync != _SYNC or not high & _HAS_START or not flags & _HAS_PAYLOAD:
            continue
        payload = at + 4 + (1 + content[at + 4] if flags & _HAS_ADAPTATION else 0)
        head = content[payload : payload + 4]
        if head[:3] == _PES_START and head[3:] and head[3] in _VIDEO_IDS:
            yield (high & 0x1F) << 8 | low


def _grid(content: bytes) -> tuple[int, int]:
    """Where the first packet begins, and how far apart packets are."""
    for start in range(max(_PACKET_SIZES)):
        for size in _PACKET_SIZES:
            marks = list(islice(content[start::size], _NUM_SYNCS))
            if len(marks) == _NUM_SYNCS and set(marks) == {_SYNC}:
                return start, size
    return 0, _PACKET_SIZES[0]
