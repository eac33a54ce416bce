"""Find Dolby Vision's configuration record in MP4 and Matroska, which PyAV does not tell.

The record says whether the pictures can be shown by a player that knows nothing of Dolby Vision
("Dolby Vision Streams Within the ISO Base Media File Format", version 2.4, section 3.2).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MAX_BYTES = 2**26  # of a movie box
_HEAD_BYTES = 2**20  # of a Matroska file
_FIRST_OF_SEVERAL = 8  # from this profile on there are several base layers
_BOX = 8  # bytes of a box's size and name

# MP4: the record follows the name of its box; Matroska: BlockAddIDType, then BlockAddIDExtraData
_RECORDS = (
    re.compile(rb"dv[cvw]C(.{5})", re.DOTALL),
    re.compile(rb"\x41\xe7\x84dv[cvw]C\x41\xed.(.{5})", re.DOTALL),
)
_MATROSKA = b"\x1a\x45\xdf\xa3"


class DolbyVision(NamedTuple):
    """The profile of a Dolby Vision stream, and what its base layer is compatible with, or 0."""

    profile: int
    compatibility: int

    @property
    def has_base_layer(self) -> bool:
        """Whether the pictures are right without Dolby Vision's metadata."""
        return self.profile != 5 and (self.profile != 10 or self.compatibility > 0)

    @property
    def name(self) -> str:
        """Such as `8.1`."""
        has_several = self.profile >= _FIRST_OF_SEVERAL
        return f"{self.profile}.{self.compatibility}" if has_several else str(self.profile)


def dolby_vision(path: Path) -> DolbyVision | None:
    """The first configuration record of a file; None if it has none."""
    with path.open("rb") as file:
        is_matroska = file.read(4) == _MATROSKA
        file.seek(0)
        headers = iter([file.read(_HEAD_BYTES)]) if is_matroska else _movie_boxes(file)
        for header in headers:
            if found := _RECORDS[is_matroska].search(header):
                record = found[1]
                return DolbyVision(record[2] >> 1, record[4] >> 4)
    return None


def _movie_boxes(file: BinaryIO) -> Iterator[bytes]:
    """The contents of the boxes `moov` of an MP4 file; none of any other file."""
    while len(head := file.read(_BOX)) == _BOX:
        size, name = int.from_bytes(head[:4]), head[4:]
        used = _BOX
        if not name.isalnum():
            return
        if size == 1:  # the size follows, in 64 bits
            size, used = int.from_bytes(file.read(8)), 2 * _BOX
        if name == b"moov":
            yield file.read(min(size - used, _MAX_BYTES) if size else _MAX_BYTES)
            return
        if size < used:
            return
        file.seek(size - used, 1)
