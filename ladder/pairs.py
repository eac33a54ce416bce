"""An encode and its source, looked at before they are compared: do they fit, and how?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ladder.errors import VmafError
from ladder.frames import Pixels
from ladder.pieces import Piece, parse_pieces
from ladder.probe import VideoInfo, count_frames, probe
from ladder.sync import frame_offset, opening
from ladder.tables import EncodeRow
from ladder.transcode import extent_of
from ladder.vmaf import Pairing

_COUNT_TOLERANCE = 2  # frames that encode and source may differ by before it is worth a warning
_RATE_TOLERANCE = 0.001


@dataclass(frozen=True)
class Reference:
    """What all encodes of a source are compared with."""

    info: VideoInfo
    pieces: tuple[Piece, ...]
    frame_count: int
    opening: Pixels


@dataclass(frozen=True)
class Pair:
    """One encode beside its source; `offset` is found, `pairing.offset` is corrected for."""

    row: EncodeRow
    encode: VideoInfo
    pairing: Pairing
    offset: int


def read_reference(row: EncodeRow) -> Reference:
    """The source of an encode.

    Raises:
        VideoError: it is gone or cannot be read.
    """
    info, pieces = probe(Path(row.source_path)), parse_pieces(row.pieces)
    return Reference(info, pieces, extent_of(info, pieces).frame_count, opening(info, pieces))


def read_pair(row: EncodeRow, folder: Path, source: Reference, *, sync: bool) -> Pair:
    """The encode of `row` beside its source; `sync` pairs by the offset that is found.

    Raises:
        VideoError: the encode is gone or cannot be read.
        VmafError: the two cannot be compared.
    """
    encode = probe(folder / row.encode_path)
    if encode.hdr != source.info.hdr:
        raise VmafError(
            f"encode and source differ in HDR ({encode.hdr or 'SDR'} against "
            f"{source.info.hdr or 'SDR'}): their VMAF would mean nothing; tone-map the one in HDR"
        )
    pairing = Pairing(frames_source=source.frame_count, frames_encode=count_frames(encode.path))
    # at two rates the n-th frames are no pair whatever the offset
    is_alike = _are_of_one_rate(encode, source.info)
    offset = frame_offset(opening(encode), source.opening) if is_alike else 0
    return Pair(row, encode, replace(pairing, offset=offset) if sync else pairing, offset)


def warnings_of(pair: Pair, source: VideoInfo) -> Iterator[str]:
    """What a reader of the label should know, as `code` or `code:value`."""
    difference = pair.pairing.frames_encode - pair.pairing.frames_source
    if abs(difference) > _COUNT_TOLERANCE:
        yield f"frame_count:{difference:+d}"
    if pair.offset:
        yield f"{'synced' if pair.pairing.offset else 'shifted'}:{pair.offset:+d}"
    if not _are_of_one_rate(pair.encode, source):
        yield f"fps:{float(source.fps):g}>{float(pair.encode.fps):g}"
    if source.hdr:
        yield "hdr"
    if source.is_vfr:
        yield "vfr"
    if source.is_interlaced:
        yield "interlaced"


def _are_of_one_rate(encode: VideoInfo, source: VideoInfo) -> bool:
    return abs(encode.fps - source.fps) <= _RATE_TOLERANCE * source.fps
