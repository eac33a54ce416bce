"""Align an encode with its source: frame counts, rates and HDR before, its pictures after VMAF."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ladder.encode.plan import EncodeRow, require_same_source
from ladder.encode.transcode import measure_length
from ladder.errors import VmafError
from ladder.label.matching import Match, find_match, misfit, misfit_nearby
from ladder.label.pairing import (
    Conversion,
    FrameNumbers,
    Pairing,
    PairingMode,
    conversion_of,
    conversions_by_time,
    other_conversions,
    partners,
)
from ladder.label.previews import REACH_S, Previews
from ladder.media.decode import has_interlaced_frames
from ladder.media.lengths import count_frames, frame_lasts, frame_times, start_gap
from ladder.media.probe import RGB, VideoInfo, probe
from ladder.media.remote import as_path, path_in
from ladder.media.time_ranges import TimeRange, parse_time_ranges
from ladder.media.tonemap import TONEMAPPED

_COUNT_TOLERANCE = 2  # frames; a larger difference gives a warning


_RATE_TOLERANCE = 0.001  # relative


_ASPECT_TOLERANCE, _ROUNDING_PX = 0.02, 3.0  # relative; pixels of width


_MAX_WORSE = 1.06  # than partners near by: exact pairs are at most 1.04, and others 1.07 to 15


_SEARCHED = 200  # previews that find where a cut is
_PARTS, _MAX_PARTS = 32, 256  # places in a slot, and between two frames, where it may end


_ROUNDING_S = 0.003  # of the times of two frames, in the coarsest containers


_MIN_BETTER = 0.97  # by how much the pictures of another conversion of the rate must fit better


FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """A source that encodes are compared with."""

    info: VideoInfo
    time_ranges: tuple[TimeRange, ...]
    frame_count: int

    @property
    def length_s(self) -> Fraction:
        """The seconds that its frames last."""
        return self.frame_count / self.info.fps

    def times(self) -> Sequence[float]:
        """When each of its frames is shown, in seconds from the first."""
        return self._times

    @property
    def is_uneven(self) -> bool:
        """Whether its frames are shown as the file says, and not at equal intervals."""
        info = self.info
        is_steady = info.is_timed_by_order or info.is_interlaced or self.time_ranges
        return not is_steady and _is_uneven(self.times())

    @cached_property
    def _times(self) -> Sequence[float]:
        if self.time_ranges:
            return [float(number / self.info.fps) for number in range(self.frame_count)]
        return frame_times(self.info.path, self.info.fps)


@dataclass(frozen=True)
class AlignedEncode:
    """One encode that can be compared with its source.

    Attributes:
        row: its row of `encodes.csv`.
        info: what `probe` found.
        pairing: how its frames are matched with the source's.
        match: what its pictures say of it; `pairing.offset` is the offset that is corrected.
    """

    row: EncodeRow
    info: VideoInfo
    pairing: Pairing
    match: Match = field(default_factory=Match)

    @property
    def offset(self) -> int:
        """Frames that it lags behind its source, as its pictures show."""
        return -self.match.shift


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
    tonemap: bool = False,
    localized: Callable[[Path], Path] = lambda path: path,
) -> AlignedEncode:
    """The encode of `row`, paired by what the two files state; `tonemap` reads HDR as SDR.

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
    return AlignedEncode(row, encode, _stated_pairing(encode, source))


def _stated_pairing(encode: VideoInfo, source: Reference) -> Pairing:
    pairing = Pairing(frames_source=source.frame_count, frames_encode=count_frames(encode.path))
    ratio = encode.fps / source.info.fps
    if source.is_uneven and not _is_uneven(frame_times(encode.path, encode.fps)):
        end_s = source.times()[-1] + float(1 / source.info.fps)
        pairing = replace(pairing, ratio=ratio, num_slots=round(end_s * encode.fps))
        is_by_index = pairing.frames_source == pairing.frames_encode
        return pairing if is_by_index else replace(pairing, conversion=Conversion.FILE)
    if _have_same_rate(encode, source.info, pairing) or encode.is_vfr or source.info.is_vfr:
        return pairing
    conversion = conversion_of(pairing.frames_source, pairing.frames_encode, ratio)
    return replace(pairing, conversion=conversion, ratio=ratio)


def check_alignment(
    aligned: AlignedEncode,
    source: Reference,
    encode_previews: Previews,
    source_previews: Previews,
    *,
    sync: bool,
) -> AlignedEncode:
    """What the pictures say of a pair that was measured; its pairing differs if it was wrong.

    The conversion of another rate is chosen by how well frames fit; an offset is corrected with
    `sync`.
    """
    candidates = _candidates(aligned.pairing, source)
    by_index = all(pairing.mode == PairingMode.INDEX for pairing in candidates)
    source_times = [] if by_index else source.times()
    encode_times = [] if by_index else frame_times(aligned.info.path, aligned.info.fps)
    reach = round(REACH_S * source.info.fps)
    best, least = aligned, math.inf
    for pairing in candidates:
        numbers = partners(pairing, source_times, encode_times, source.info.fps)
        match = find_match(encode_previews, source_previews, numbers, reach)
        error = 0.0
        if len(candidates) > 1:
            error = misfit(encode_previews, source_previews, numbers, match.shift)
        if pairing is aligned.pairing or error < _MIN_BETTER * least:
            best, least = replace(aligned, pairing=pairing, match=match), error
    is_shifted = best.pairing.mode == PairingMode.INDEX and best.offset
    if best.pairing.num_slots is not None and not is_shifted:
        search = _ByTime(
            best.pairing,
            source.info.fps,
            np.asarray(source.times()),
            frame_lasts(source.info.path),
            encode_times,
            (encode_previews, source_previews),
        )
        return search.checked(best, sync=sync)
    if not sync or not best.offset:
        return best
    return replace(best, pairing=replace(best.pairing, offset=best.offset))


@dataclass(frozen=True)
class _ByTime:
    """Search how an encode with a constant rate was made of a source with a variable one."""

    stated: Pairing
    fps: Fraction
    times: FloatArray
    lasts: Sequence[float]
    encode_times: Sequence[float]
    previews: tuple[Previews, Previews]

    def checked(self, best: AlignedEncode, *, sync: bool) -> AlignedEncode:
        """The encode with a pairing that is exact, or with `is_unaligned`."""
        shift, is_suspect = best.match.shift, best.match.is_unaligned
        if not shift and not is_suspect and self.is_exact(best.pairing):
            return best
        if shift < 0:  # frames in front of it would move it against the slots
            return replace(best, match=replace(best.match, is_unaligned=True))
        if not shift:  # the slots of other programs may begin elsewhere
            found = self.closest(
                each for part in range(_PARTS) for each in self.cut(0, part / (_PARTS * self.rate))
            )
            if self.is_exact(found):
                return replace(best, pairing=found, match=replace(best.match, is_unaligned=False))
        found = self.without_head()
        if not self.is_exact(found):
            return replace(best, match=replace(best.match, is_unaligned=True))
        return replace(best, match=Match(-found.offset), pairing=found if sync else best.pairing)

    @property
    def rate(self) -> Fraction:
        """Frames a second of the encode."""
        return self.fps * self.stated.ratio

    def without_head(self) -> Pairing:
        """The best of those in which frames of the source are left out at its start."""
        count = min(len(self.times) - 1, int(np.searchsorted(self.times, REACH_S)))
        skips = range(1, max(2, count))
        skip = -self.closest(each for skip in skips for each in self.cut(skip, Fraction(0))).offset
        return self.closest(
            each
            for near in range(max(1, skip - 1), min(skip + 2, len(self.times) - 1))
            for late_s in self.ends(near)
            for each in self.cut(near, late_s)
        )

    def ends(self, skip: int) -> Iterator[Fraction]:
        """Where a cut may end between two frames: seconds until the second."""
        gap_s = Fraction(self.times[skip] - self.times[skip - 1]).limit_denominator(90_000)
        count = min(_MAX_PARTS, math.ceil(gap_s * self.rate * _PARTS))
        yield from (gap_s * part / count for part in range(count))

    def cut(self, skip: int, late_s: Fraction) -> list[Pairing]:
        """The conversions of the source without its first frames."""
        rest = self.times[skip:] - self.times[skip]
        length_s = rest[-1] + float(late_s + 1 / self.fps)
        stated = replace(self.stated, offset=-skip, num_slots=round(length_s * float(self.rate)))
        return conversions_by_time(stated, rest, self.lasts[skip:], self.fps, late_s)

    def closest(self, pairings: Iterable[Pairing]) -> Pairing:
        """The one whose frames fit best."""
        encode, source = self.previews
        step = max(1, len(encode.numbers) // _SEARCHED)
        few = Previews(encode.numbers[::step], encode.planes[::step])
        return min(pairings, key=lambda each: misfit(few, source, self.partners_of(each)))

    def is_exact(self, pairing: Pairing) -> bool:
        """Whether hardly any frame would fit better with a frame near its partner."""
        numbers = self.partners_of(pairing)
        near = misfit_nearby(*self.previews, numbers)
        return misfit(*self.previews, numbers) <= _MAX_WORSE * near

    def partners_of(self, pairing: Pairing) -> FrameNumbers:
        """`partners`, where frames are left out at the start of the source."""
        rest = self.times[-pairing.offset :] - self.times[-pairing.offset]
        whole = replace(pairing, offset=0, frames_source=len(rest))
        return partners(whole, rest.tolist(), self.encode_times, self.fps) - pairing.offset


def _is_uneven(times: Sequence[float]) -> bool:
    """Whether frames are apart differently, by more than what the rounding of times explains."""
    steps = np.diff(times)[1:-1]  # an edit list can shorten the first, reordering the last
    return bool(len(steps) and steps.max() - steps.min() > _ROUNDING_S)


def _candidates(stated: Pairing, source: Reference) -> list[Pairing]:
    """How the frames may be paired, as stated first."""
    if stated.num_slots is None:
        return [stated, *(other_conversions(stated) if stated.conversion else [])]
    path, fps = source.info.path, source.info.fps
    times, lasts = source.times(), frame_lasts(path)
    others = [replace(stated, conversion=None)]
    # ffmpeg counts from the start of the file, where sound may begin earlier
    for late_s in dict.fromkeys((Fraction(0), start_gap(path))):
        others += conversions_by_time(stated, times, lasts, fps, late_s)
    return [stated, *(other for other in others if other != stated)]


def alignment_warnings(aligned: AlignedEncode, source: VideoInfo) -> Iterator[str]:
    """Warnings for the label's row, as `code` or `code:value`."""
    pairing, info = aligned.pairing, aligned.info
    difference = pairing.frames_encode - pairing.slots_of(pairing.frames_source)
    if abs(difference) > _COUNT_TOLERANCE:
        yield f"frame_count:{difference:+d}"
    if aligned.offset:
        yield f"{'synced' if pairing.offset else 'shifted'}:{aligned.offset:+d}"
    if aligned.match.is_unaligned:
        yield "unaligned"
    if aligned.match.is_other:
        yield "other_content"
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
