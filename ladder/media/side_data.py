"""What a container says of a video beside its pictures: Dolby Vision, cropping.

FFmpeg reads these from MP4 and Matroska as side data of a stream, and PyAV does not pass it on.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import BinaryIO, NamedTuple

from av.container import InputContainer
from av.video.stream import VideoStream

_MAX_BYTES = 2**26  # of the part of a file that describes its tracks
_FIRST_OF_SEVERAL = 8  # from this profile on there are several base layers
_RECORD_BYTES = 5  # of a record of Dolby Vision, with all that is read here

# ISO/IEC 14496-12
_BOX = 8  # bytes of a box's size and name
_SAMPLE_ENTRY = 78  # bytes before the boxes in the description of a video track
_VISION_BOXES = (b"dvcC", b"dvvC", b"dvwC")

# RFC 8794 and RFC 9559
_EBML = b"\x1a\x45\xdf\xa3"
_MAX_ELEMENTS = 2**14  # before the tracks
_SEGMENT, _TRACKS, _TRACK_ENTRY, _TRACK_TYPE, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0xE0
_CROP = (0x54CC, 0x54DD, 0x54BB, 0x54AA)  # left, right, top, bottom
_ADDITION, _ADDITION_TYPE, _ADDITION_DATA = 0x41E4, 0x41E7, 0x41ED


class Crop(NamedTuple):
    """How many pixels of the stored picture are not shown at each of its sides."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def rest(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height of what is left of a picture."""
        return width_px - self.left - self.right, height_px - self.top - self.bottom

    def upright(self, rotation: int, *, is_mirrored: bool) -> "Crop":
        """The same of the picture as it is shown: mirrored, then turned counter-clockwise."""
        left, right, top, bottom = self
        if is_mirrored:
            left, right = right, left
        for _ in range(rotation // 90):
            top, left, bottom, right = right, top, left, bottom
        return Crop(left, right, top, bottom)


class DolbyVision(NamedTuple):
    """The profile of a Dolby Vision stream, and what its base layer is compatible with, or 0.

    Source: "Dolby Vision Streams Within the ISO Base Media File Format", version 2.4, section 3.2.
    """

    profile: int
    compatibility: int

    @property
    def has_base_layer(self) -> bool:
        """Whether a player that knows nothing of Dolby Vision shows the right pictures."""
        return self.profile != 5 and (self.profile != 10 or self.compatibility > 0)

    @property
    def name(self) -> str:
        """Such as `8.1`."""
        has_several = self.profile >= _FIRST_OF_SEVERAL
        return f"{self.profile}.{self.compatibility}" if has_several else str(self.profile)


class SideData(NamedTuple):
    """What a container says of one of its videos."""

    crop: Crop = Crop()
    dolby_vision: DolbyVision | None = None


NO_SIDE_DATA = SideData()


def side_data(path: Path, container: InputContainer, stream: VideoStream) -> SideData:
    """The side data of one video of an open file; nothing where the container has none.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        is_matroska = file.read(len(_EBML)) == _EBML
        file.seek(0)
        if is_matroska:
            number = sum(each.index < stream.index for each in container.streams.video)
            return _of_matroska(_tracks(file), number)
        return _of_movie(_movie(file), stream.id)


def _vision(record: bytes) -> DolbyVision | None:
    return DolbyVision(record[2] >> 1, record[4] >> 4) if len(record) >= _RECORD_BYTES else None


def _movie(file: BinaryIO) -> bytes:
    """The contents of the box `moov` of an MP4 file; empty for any other file."""
    while len(head := file.read(_BOX)) == _BOX:
        size, name, used = int.from_bytes(head[:4]), head[4:], _BOX
        if size == 1:  # the size follows, in 64 bits
            size, used = int.from_bytes(file.read(_BOX)), 2 * _BOX
        if name == b"moov":
            return file.read(min(size - used, _MAX_BYTES) if size else _MAX_BYTES)
        if size < used or not name.isalnum():
            return b""
        file.seek(size - used, 1)
    return b""


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of the boxes in a box."""
    place = 0
    while place + _BOX <= len(content):
        size, used = int.from_bytes(content[place : place + 4]), _BOX
        if size == 1:
            size, used = int.from_bytes(content[place + _BOX : place + 2 * _BOX]), 2 * _BOX
        if size < used:
            return
        yield content[place + 4 : place + _BOX], content[place + used : place + size]
        place += size


def _inner(content: bytes, *names: bytes) -> bytes:
    """The content of the box that is found by one name after another; empty if there is none."""
    for name in names:
        content = next((inner for each, inner in _boxes(content) if each == name), b"")
    return content


def _of_movie(movie: bytes, track_id: int) -> SideData:
    for name, track in _boxes(movie):
        header = _inner(track, b"tkhd")
        place = 20 if header[:1] == b"\x01" else 12
        if name != b"trak" or int.from_bytes(header[place : place + 4]) != track_id:
            continue
        descriptions = _inner(track, b"mdia", b"minf", b"stbl", b"stsd")[_BOX:]
        first = next((content for _, content in _boxes(descriptions)), b"")
        told = dict(_boxes(first[_SAMPLE_ENTRY:]))
        record = next((told[name] for name in _VISION_BOXES if name in told), b"")
        return SideData(_clean_aperture(first, told.get(b"clap", b"")), _vision(record))
    return NO_SIDE_DATA


def _clean_aperture(description: bytes, box: bytes) -> Crop:
    """The crop that a box `clap` states: the size of what is left, and where its centre is."""
    numbers = [int.from_bytes(box[at : at + 4], signed=True) for at in range(0, 32, 4)]
    if len(box) < 32 or min(numbers[1::2]) < 1:  # denominators
        return Crop()
    width, height, right_by, down_by = map(Fraction, numbers[::2], numbers[1::2])
    sides: list[int] = []
    for place, length, offset in ((24, width, right_by), (26, height, down_by)):
        around = int.from_bytes(description[place : place + 2]) - length
        before = floor(around / 2 + offset + Fraction(1, 2))
        sides += [before, floor(around) - before]
    return Crop(*sides) if min(width, height) > 0 and min(sides) >= 0 else Crop()


def _head(file: BinaryIO) -> tuple[int, int] | None:
    """The ID and the size of the element of Matroska that follows; -1: up to the end."""
    name, size = _coded_number(file), _coded_number(file)
    if not name or not size:
        return None
    bits = size.bit_length() - 1  # the highest one marks the length
    size -= 1 << bits
    return name, -1 if size == (1 << bits) - 1 else size


def _coded_number(file: BinaryIO) -> int:
    """A number whose leading zeros tell its length, with the one that ends them; 0: none."""
    first = file.read(1)
    return int.from_bytes(first + file.read(8 - first[0].bit_length())) if first.strip(b"\0") else 0


def _tracks(file: BinaryIO) -> bytes:
    """The content of the element Tracks."""
    for _ in range(_MAX_ELEMENTS):
        head = _head(file)
        if not head:
            break
        name, size = head
        if name == _TRACKS:
            return file.read(_MAX_BYTES if size < 0 else min(size, _MAX_BYTES))
        if name == _SEGMENT:
            continue
        if size < 0:
            break
        file.seek(size, 1)
    return b""


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(ID, content) of the elements in an element."""
    file = io.BytesIO(content)
    while head := _head(file):
        yield head[0], file.read(head[1])


def _number(elements: dict[int, bytes], name: int) -> int:
    return int.from_bytes(elements.get(name, b""))


def _of_matroska(tracks: bytes, number: int) -> SideData:
    """The side data of the video of this number, from 0 on."""
    each = [list(_elements(track)) for name, track in _elements(tracks) if name == _TRACK_ENTRY]
    videos = [track for track in each if _number(dict(track), _TRACK_TYPE) == 1]
    if number >= len(videos):
        return NO_SIDE_DATA
    additions = [dict(_elements(content)) for name, content in videos[number] if name == _ADDITION]
    records = [
        addition.get(_ADDITION_DATA, b"")
        for addition in additions
        if addition.get(_ADDITION_TYPE) in _VISION_BOXES
    ]
    picture = dict(_elements(dict(videos[number]).get(_VIDEO, b"")))
    crop = Crop(*(_number(picture, name) for name in _CROP))
    return SideData(crop, _vision(records[0]) if records else None)
