"""Where a file ends by its own header: files that were cut, and headers that were never finished.

FFmpeg reads FLV, ASF and AVI to the end that it finds, and tells of no other. It opens no MP4
without an index. Transport and program streams state no end.
"""

import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

MAX_MISSING_S = 0.5
"""A file that ends this long before its stated duration is damaged."""

_SLACK_BYTES = 64  # some programs count the heads of chunks too
_UNKNOWN_SIZES = frozenset({0, 2**32 - 1})  # of RIFF, as written before the end is known
_FLV_TAGS = frozenset({8, 9, 18})  # sound, video, script
_FLV_SCRIPT, _FLV_HEAD, _FLV_MAX_SCRIPT = 18, 11, 2**20
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_MAX_HEADER = 2**24
_ASF_IS_BROADCAST = 1  # its counts are not valid
_ASF_DATA_HEAD = 50
_BOXES = frozenset({b"ftyp", b"moov", b"mdat"})  # of which an MP4 or a MOV has at least one
_MATROSKA_SEGMENT = bytes.fromhex("18538067")
_MATROSKA_UNKNOWN = (b"\xff", bytes([1, *[255] * 7]))  # sizes of one byte, and of eight


def missing_end(path: Path) -> str:
    """What a file lacks of what its header states; empty: nothing, or the header does not say.

    Such as `has 53364 bytes, its header states 88932`, of the three formats above.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
        if start[:3] == b"FLV":
            return _missing_of_flv(file)
        stated = _ENDS[start](file) if start in _ENDS else 0
        size = file.seek(0, 2)
    return f"has {size} bytes, its header states {stated}" if stated > size + _SLACK_BYTES else ""


def missing_index(path: Path) -> str:
    """Why an MP4 or a MOV cannot be opened, if it was cut; empty: it is another format, or whole.

    Raises:
        OSError: the file cannot be read.
    """
    place, names = 0, set()
    with path.open("rb") as file:
        size = file.seek(0, 2)
        while place < size and (head := _at(file, place, 16))[4:8].isalnum():
            box = int.from_bytes(head[:4])
            box = int.from_bytes(head[8:]) if box == 1 else box
            names.add(head[4:8])
            place += box
            if box < 8:  # 0: it has no end
                break
    if not names & _BOXES:
        return ""
    if place > size:
        return f"has {size} bytes, its header states {place}"
    return "" if b"moov" in names else "has no index (box moov), as of a recording that was cut"


def has_guessed_length(path: Path) -> bool:
    """Whether the header was written before the end was known, so that its length is a guess.

    FFmpeg writes into a pipe what `-t` asked for, and a program that is killed leaves that too.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
        if start[:3] == b"FLV":
            return _number_of_flv(_script_of_flv(file), b"filesize") == 0
    segment, _, size = start.partition(_MATROSKA_SEGMENT)
    return start[:4] == b"\x1aE\xdf\xa3" and bool(segment) and size.startswith(_MATROSKA_UNKNOWN)


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _script_of_flv(file: BinaryIO) -> bytes:
    """The content of the first tag, where the file states its length."""
    place = int.from_bytes(_at(file, 5, 4)) + 4
    head = _at(file, place, _FLV_HEAD)
    if not head or head[0] & 0x1F != _FLV_SCRIPT:
        return b""
    return file.read(min(int.from_bytes(head[1:4]), _FLV_MAX_SCRIPT))


def _number_of_flv(script: bytes, name: bytes) -> float | None:
    """A number that the script states, a double of AMF0; None: it does not."""
    _, found, rest = script.partition(bytes([0, len(name)]) + name + b"\0")
    return float(struct.unpack(">d", rest[:8])[0]) if found and len(rest) >= 8 else None


def _missing_of_flv(file: BinaryIO) -> str:
    script = _script_of_flv(file)
    stated_s = _number_of_flv(script, b"duration") or 0.0
    if not 0 < stated_s < math.inf or _number_of_flv(script, b"filesize") == 0:
        return ""
    end_s = _end_of_flv_s(file)
    if end_s is None or stated_s - end_s <= MAX_MISSING_S:
        return ""
    return f"ends at {end_s:.2f} s, its header states {stated_s:.2f} s"


def _end_of_flv_s(file: BinaryIO) -> float | None:
    """The latest time of a tag of any track, in seconds; None: the tags do not reach the end."""
    place, latest_ms = int.from_bytes(_at(file, 5, 4)) + 4, 0
    file.seek(place)
    while len(head := file.read(_FLV_HEAD)) == _FLV_HEAD:
        if not any(head):  # space that was taken before the file was there
            break
        if head[0] & 0x1F not in _FLV_TAGS:
            return None
        latest_ms = max(latest_ms, int.from_bytes(head[7:8] + head[4:7], signed=True))
        file.seek(int.from_bytes(head[1:4]) + 4, 1)
    return latest_ms / 1000


def _end_of_asf(file: BinaryIO) -> int:
    """Where the data packets end; 0: unknown. The packets of a file have one size."""
    place, header = 30, int.from_bytes(_at(file, 16, 8), "little")
    while place < min(header, _ASF_MAX_HEADER):
        head = _at(file, place, 96)
        if len(head) < 96:
            break
        if head.startswith(_ASF_FILE_PROPERTIES):
            count, flags, packet = struct.unpack("<Q24xII", head[56:96])
            is_known = count and not flags & _ASF_IS_BROADCAST
            return header + _ASF_DATA_HEAD + count * packet if is_known else 0
        place += max(24, int.from_bytes(head[16:24], "little"))
    return 0


def _end_of_avi(file: BinaryIO) -> int:
    """Where the last list of frames ends that begins in the file; 0: unknown.

    What is behind it is an index, which FFmpeg does without. A file of OpenDML has a chunk RIFF for
    each gigabyte.
    """
    place = end = 0
    while (head := _at(file, place, 12))[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        if size in _UNKNOWN_SIZES:
            break
        after = place + 8 + size + size % 2
        end = _end_of_frames(file, place + 12, after) or end
        place = after
    return end


def _end_of_frames(file: BinaryIO, place: int, until: int) -> int:
    """Where the list of frames ends that is between two places; 0: none, or unknown."""
    while place < until and len(head := _at(file, place, 12)) == 12:
        size = int.from_bytes(head[4:8], "little")
        if head[:4] == b"LIST" and head[8:] == b"movi":
            return 0 if size in _UNKNOWN_SIZES else place + 8 + size
        place += 8 + size + size % 2
    return 0


_ENDS: Mapping[bytes, Callable[[BinaryIO], int]] = {
    b"RIFF": _end_of_avi,
    bytes.fromhex("3026b275"): _end_of_asf,
}
"""How each format states its end, by the first bytes of its files."""
