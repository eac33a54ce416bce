"""Align an encode with its source before libvmaf compares them: frame counts, offset, HDR, rate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ladder.encode.plan import EncodeRow, require_same_source
from ladder.encode.transcode import measure_length
from ladder.errors import VmafError
from ladder.label.libvmaf import Pairing
from ladder.media.decode import has_interlaced_frames, read_luma
from ladder.media.lengths import count_frames
from ladder.media.probe import RGB, VideoInfo, probe
from ladder.media.remote import as_path, path_in
from ladder.media.time_ranges import TimeRange, frame_aligned, parse_time_ranges
from ladder.media.tonemap import TONEMAPPED
from ladder.media.upright import Pixels

_COUNT_TOLERANCE = 2  # frames; a larger difference gives a warning


_RATE_TOLERANCE = 0.001  # relative


_ASPECT_TOLERANCE, _ROUNDING_PX = 0.02, 3.0  # relative; pixels of width


_NUM_OPENING_FRAMES, _MAX_OFFSET, _OPENING_SIZE = 25, 8, (160, 90)


_CLEAR_WIN = 0.6  # an offset must have an error this much smaller than none


@dataclass(frozen=True)
class Reference:
    """A source that encodes are compared with."""

    info: VideoInfo
    time_ranges: tuple[TimeRange, ...]
    frame_count: int
    opening_frames: Pixels


@dataclass(frozen=True)
class AlignedEncode:
    """One encode that can be compared with its source.

    Attributes:
        row: its row of `encodes.csv`.
        info: what `probe` found.
        pairing: how its frames are matched with the source's.
        offset: frames that it lags behind its source, as measured; `pairing.offset` is the offset
            that is corrected.
    """

    row: EncodeRow
    info: VideoInfo
    pairing: Pairing
    offset: int


def read_reference(
    row: EncodeRow, *, tonemap: bool = False, localized: Callable[[Path], Path] = lambda path: path
) -> Reference:
    """The source of an encode; with `tonemap`, an HDR one is read as SDR.

    `localized` gives the file here of a path that may be remote.

    Raises:
        VideoError: the file is missing or cannot be read.
        VmafError: another file has taken its place.
    """
    require_same_source(row)
    info = _probed(localized(as_path(row.source_path)), tonemap=tonemap)
    time_ranges = parse_time_ranges(row.pieces)
    return Reference(
        info,
        time_ranges,
        measure_length(info, time_ranges).frame_count,
        opening_frames(info, time_ranges),
    )


def _probed(path: Path, *, tonemap: bool) -> VideoInfo:
    """What `probe` finds, and whether interlaced frames follow progressive ones."""
    info = probe(path, tonemap=tonemap)
    is_partly_interlaced = not info.is_interlaced and has_interlaced_frames(path)
    return replace(info, is_partly_interlaced=is_partly_interlaced)


def align_encode(
    row: EncodeRow,
    folder: Path,
    source: Reference,
    *,
    sync: bool,
    tonemap: bool = False,
    localized: Callable[[Path], Path] = lambda path: path,
) -> AlignedEncode:
    """The encode of `row`; `sync` corrects an offset to its source, `tonemap` reads HDR as SDR.

    Raises:
        VideoError: the encode is missing or cannot be read.
        VmafError: the two cannot be compared.
    """
    encode = _probed(localized(path_in(folder, row.encode_path)), tonemap=tonemap)
    if encode.hdr_of_frames != source.info.hdr_of_frames:
        raise VmafError(
            f"the encode is {encode.hdr or 'SDR'}, its source {source.info.hdr or 'SDR'}: VMAF "
            "between HDR and SDR means nothing; --tonemap compares both as SDR"
        )
    pairing = Pairing(frames_source=source.frame_count, frames_encode=count_frames(encode.path))
    # at different rates the n-th frames do not match at any offset
    has_offset = _have_same_rate(encode, source.info, pairing)
    offset = frame_offset(opening_frames(encode), source.opening_frames) if has_offset else 0
    return AlignedEncode(row, encode, replace(pairing, offset=offset) if sync else pairing, offset)


def alignment_warnings(aligned: AlignedEncode, source: VideoInfo) -> Iterator[str]:
    """Warnings for the label's row, as `code` or `code:value`."""
    pairing, info = aligned.pairing, aligned.info
    difference = pairing.frames_encode - pairing.frames_source
    if abs(difference) > _COUNT_TOLERANCE:
        yield f"frame_count:{difference:+d}"
    if aligned.offset:
        yield f"{'synced' if pairing.offset else 'shifted'}:{aligned.offset:+d}"
    if not _have_same_rate(info, source, pairing):
        yield f"fps:{float(source.fps):g}>{float(info.fps):g}"
    if not _have_same_shape(info, source):
        yield f"aspect:{_aspect(source):.3g}>{_aspect(info):.3g}"
    both = (source, info)
    if RGB not in {v.matrix for v in both} and info.effective_matrix != source.effective_matrix:
        yield f"matrix:{source.matrix_of_frames}>{info.matrix_of_frames}"
    facts = {
        "hdr": source.hdr_of_frames,
        TONEMAPPED: source.is_tonemapped or info.is_tonemapped,
        "vfr": any(video.is_vfr for video in both),
        "interlaced": any(video.is_interlaced for video in both),
        "partly_interlaced": any(video.is_partly_interlaced for video in both),
        "several_videos": any(video.num_videos > 1 for video in both),
        "range": any(video.has_two_ranges for video in both),
        "dolby_vision": any(video.dolby_vision for video in both),
    }
    yield from (code for code, is_raised in facts.items() if is_raised)


def _have_same_rate(encode: VideoInfo, source: VideoInfo, pairing: Pairing) -> bool:
    if encode.is_vfr and source.is_vfr:  # their average rates are those of their first frames
        return pairing.frames_encode == pairing.frames_source
    return abs(encode.fps - source.fps) <= _RATE_TOLERANCE * source.fps


def _have_same_shape(encode: VideoInfo, source: VideoInfo) -> bool:
    """Whether the pictures have one shape, but for what even sides round off."""
    width, height = encode.display_size
    off_px = abs(width - height * _aspect(source))
    return off_px <= max(_ROUNDING_PX, _ASPECT_TOLERANCE * width)


def _aspect(video: VideoInfo) -> float:
    width, height = video.display_size
    return width / height


def opening_frames(video: VideoInfo, time_ranges: tuple[TimeRange, ...] = ()) -> Pixels:
    """Luma of the first frames of a video, or of its first time range: (T, 90, 160), T <= 25."""
    if not time_ranges:
        return read_luma(video, _NUM_OPENING_FRAMES, _OPENING_SIZE)
    start, length = frame_aligned(time_ranges[0], video.fps)
    count = min(_NUM_OPENING_FRAMES, round(length * video.fps))  # then another scene begins
    return read_luma(video, count, _OPENING_SIZE, float(start))


def frame_offset(encoded: Pixels, original: Pixels) -> int:
    """Frames that the encode lags behind its source, -8 to 8; negative: it is ahead.

    0 unless another offset matches clearly better, so that a still scene or a poor encode gets no
    offset.

    Args:
        encoded: `opening_frames` of the encode.
        original: `opening_frames` of the source.
    """
    count = min(len(encoded), len(original))
    max_offset = min(_MAX_OFFSET, (count - 1) // 3)
    if max_offset < 1:
        return 0
    window = np.arange(max_offset, count - max_offset)  # the same source frames for every offset
    source = original[window].astype(np.float32)
    errors = {
        lag: float(np.square(encoded[window + lag].astype(np.float32) - source).mean())
        for lag in range(-max_offset, max_offset + 1)
    }
    best = min(errors, key=lambda lag: (errors[lag], abs(lag)))
    return best if errors[best] < _CLEAR_WIN * errors[0] else 0
