"""An encode and its source, looked at before they are compared: do they fit, and how?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ladder.encode.plan import EncodeRow
from ladder.encode.transcode import measure_length
from ladder.errors import VmafError
from ladder.label.libvmaf import Pairing
from ladder.media.decode import Pixels, read_luma
from ladder.media.probe import VideoInfo, count_frames, probe
from ladder.media.time_ranges import TimeRange, frame_aligned, parse_time_ranges

_COUNT_TOLERANCE = 2  # frames that encode and source may differ by before it is worth a warning


_RATE_TOLERANCE = 0.001


@dataclass(frozen=True)
class Reference:
    """What all encodes of a source are compared with."""

    info: VideoInfo
    time_ranges: tuple[TimeRange, ...]
    frame_count: int
    opening_frames: Pixels


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
    info, time_ranges = probe(Path(row.source_path)), parse_time_ranges(row.pieces)
    return Reference(
        info,
        time_ranges,
        measure_length(info, time_ranges).frame_count,
        opening_frames(info, time_ranges),
    )


def align_encode(row: EncodeRow, folder: Path, source: Reference, *, sync: bool) -> Pair:
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
    is_alike = _have_same_rate(encode, source.info)
    offset = frame_offset(opening_frames(encode), source.opening_frames) if is_alike else 0
    return Pair(row, encode, replace(pairing, offset=offset) if sync else pairing, offset)


def alignment_warnings(pair: Pair, source: VideoInfo) -> Iterator[str]:
    """What a reader of the label should know, as `code` or `code:value`."""
    difference = pair.pairing.frames_encode - pair.pairing.frames_source
    if abs(difference) > _COUNT_TOLERANCE:
        yield f"frame_count:{difference:+d}"
    if pair.offset:
        yield f"{'synced' if pair.pairing.offset else 'shifted'}:{pair.offset:+d}"
    if not _have_same_rate(pair.encode, source):
        yield f"fps:{float(source.fps):g}>{float(pair.encode.fps):g}"
    if source.hdr:
        yield "hdr"
    if source.is_vfr:
        yield "vfr"
    if source.is_interlaced:
        yield "interlaced"


def _have_same_rate(encode: VideoInfo, source: VideoInfo) -> bool:
    return abs(encode.fps - source.fps) <= _RATE_TOLERANCE * source.fps


_FRAMES, _REACH, _SIZE = 25, 8, (160, 90)


_CLEAR_WIN = 0.6


def opening_frames(video: VideoInfo, time_ranges: tuple[TimeRange, ...] = ()) -> Pixels:
    """The first frames of a video (or of the first piece of it), small: (T, 90, 160) luma."""
    if not time_ranges:
        return read_luma(video, _FRAMES, _SIZE)
    start, length = frame_aligned(time_ranges[0], video.fps)
    count = min(_FRAMES, round(length * video.fps))  # the next piece is another scene
    return read_luma(video, count, _SIZE, float(start))


def frame_offset(encoded: Pixels, original: Pixels) -> int:
    """Frames by which the encode lags behind its source (negative: leads), 8 at the most.

    0 unless another offset matches clearly better, so a still scene or a poor encode is not
    blamed.

    Args:
        encoded: `opening_frames` of the encode.
        original: `opening_frames` of the source.
    """
    count = min(len(encoded), len(original))
    reach = min(_REACH, (count - 1) // 3)
    if reach < 1:
        return 0
    window = np.arange(reach, count - reach)  # the same source frames for every offset
    source = original[window].astype(np.float32)
    errors = {
        lag: float(np.square(encoded[window + lag].astype(np.float32) - source).mean())
        for lag in range(-reach, reach + 1)
    }
    best = min(errors, key=lambda lag: (errors[lag], abs(lag)))
    return best if errors[best] < _CLEAR_WIN * errors[0] else 0
