"""Where a file ends by its own header: files that were cut, and headers that were never finished.

FFmpeg reads FLV, ASF, AVI and fragmented MP4 to the end that it finds, and tells of no other. It
opens no MP4 without an index. Transport, program and bare streams state no end, and zeros at theirs
may be space that a recorder took first.
"""

import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ladder.media.remote import RemotePath

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
_FRAGMENT, _INDEX_AT_THE_END = b"moof", b"mfra"
_TORN_BYTES = 16  # zeros at the end of a box: it was not written to its end
_MATROSKA_SEGMENT = bytes.fromhex("18538067")
_MATROSKA_UNKNOWN = (b"\xff", bytes([1, *[255] * 7]))  # sizes of one byte, and of eight


def missing_end(path: Path) -> str:
    """What a file lacks of what its header states; empty: nothing, or the header does not say.

    Such as `has 53364 bytes, its header states 88932`, of the formats above.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        if start[:3] == b"FLV":
            return _missing_of_flv(file)
        if start[:4] in _ENDS:
            return _ENDS[start[:4]](file)
        # the heads of a remote file's fragments lie in nearly all blocks that it is fetched in
        is_walked = start[4:] in _BOXES and not isinstance(path, RemotePath)
        return _missing_of_fragments(file) if is_walked else ""


def missing_index(path: Path) -> str:
    """Why an MP4 or a MOV cannot be opened, if it was cut; empty: it is another format, or whole.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        boxes = _boxes(file)
        if not boxes.names & _BOXES:
            return ""
        if missing := _beyond(file, boxes.end) or _missing_of_fragments(file):
            return missing
    has_index = b"moov" in boxes.names
    return "" if has_index else "has no index (box moov), as of a recording that was cut"


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


def _beyond(file: BinaryIO, stated: int, slack: int = 0) -> str:
    size = file.seek(0, 2)
    return f"has {size} bytes, its header states {stated}" if stated > size + slack else ""


class _Boxes(NamedTuple):
    """The names of an MP4's outermost boxes, and where the last one ends."""

    names: frozenset[bytes]
    end: int


def _boxes(file: BinaryIO) -> _Boxes:
    place, size, names = 0, file.seek(0, 2), set()
    while place < size and (head := _at(file, place, 16))[4:8].isalnum():
        box = int.from_bytes(head[:4])
        box = int.from_bytes(head[8:]) if box == 1 else box
        names.add(head[4:8])
        if box < 8:  # 0: it goes to the end of the file
            return _Boxes(frozenset(names), size)
        place += box
    return _Boxes(frozenset(names), place)


def _missing_of_fragments(file: BinaryIO) -> str:
    boxes = _boxes(file)
    if _FRAGMENT not in boxes.names or _INDEX_AT_THE_END in boxes.names:
        return ""
    rest = file.seek(0, 2) - boxes.end
    # a recorder that takes the space of its file first leaves zeros behind a whole fragment
    is_torn = not any(_at(file, boxes.end - _TORN_BYTES, _TORN_BYTES))
    if rest > 0 and (is_torn or any(_at(file, boxes.end, _TORN_BYTES))):
        return f"has no whole fragment in its last {rest} bytes"
    return _beyond(file, boxes.end)


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


def _missing_of_asf(file: BinaryIO) -> str:
    """The packets of a file have one size, and none of them is all zeros."""
    place, header = 30, int.from_bytes(_at(file, 16, 8), "little")
    while place < min(header, _ASF_MAX_HEADER):
        head = _at(file, place, 96)
        if len(head) < 96:
            break
        if head.startswith(_ASF_FILE_PROPERTIES):
            count, flags, packet = struct.unpack("<Q24xII", head[56:96])
            is_known = count and not flags & _ASF_IS_BROADCAST
            end = header + _ASF_DATA_HEAD + count * packet if is_known else 0
            missing = _beyond(file, end, _SLACK_BYTES)
            is_there = not end or any(_at(file, end - packet, packet))
            return missing or ("" if is_there else "has only zeros where its last packet is")
        place += max(24, int.from_bytes(head[16:24], "little"))
    return ""


def _missing_of_avi(file: BinaryIO) -> str:
    """By where the last list of frames ends that begins in the file.

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
    return _beyond(file, end, _SLACK_BYTES)


def _end_of_frames(file: BinaryIO, place: int, until: int) -> int:
    """Where the list of frames ends that is between two places; 0: none, or unknown."""
    while place < until and len(head := _at(file, place, 12)) == 12:
        size = int.from_bytes(head[4:8], "little")
        if head[:4] == b"LIST" and head[8:] == b"movi":
            return 0 if size in _UNKNOWN_SIZES else place + 8 + size
        place += 8 + size + size % 2
    return 0


_ENDS: Mapping[bytes, Callable[[BinaryIO], str]] = {
    b"RIFF": _missing_of_avi,
    bytes.fromhex("3026b275"): _missing_of_asf,
}
"""What is missing of a file of a format, by the first bytes of its files."""
