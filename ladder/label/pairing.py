"""How the frames of an encode are paired with those of its source, in numbers and as filters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from math import ceil

import numpy as np
import numpy.typing as npt

from ladder.errors import VmafError
from ladder.media.filters import VideoNode, from_zero, retime_by_index
from ladder.media.probe import VideoInfo

FrameNumbers = npt.NDArray[np.int64]
"""Numbers of frames, from 0."""

_LOST_BY_TIME = 2
_MAX_PERIOD = 60  # frames of an encode after which a conversion of the rate repeats
_MAX_AHEAD = 1.1  # slots that ffmpeg's -r runs ahead before it drops a frame
_NUDGE_S = 1e-5  # less than half a slot, more than the rounding of fractions of seconds


class PairingMode(StrEnum):
    """How frames are matched: n-th with n-th, nearest in time, or after a change of the rate."""

    INDEX = "index"
    TIME = "time"
    RATE = "rate"


class Conversion(StrEnum):
    """How ffmpeg has made another frame rate: which frame of the source each new one shows.

    Frame n belongs into the slot of its time by the encode's rate, rounded; slot k shows the last
    frame whose slot is k or earlier (the filter `fps`, whose `round` is `near`). Where the
    timestamps of the source are rounded, as in Matroska, halves go either way: they differ between
    a file and its remux, and between `-vf fps=30` and `-r 30`. Or the film was only made faster or
    slower, as to bring 24 frames a second to a broadcast with 25.
    """

    RETIMED = "all frames at another speed"
    FILE = "fps by the timestamps of the file"
    UP = "fps, halves up"
    DOWN = "fps, halves down"
    DROP = "-r, which drops a frame where it is 1.1 frames ahead"


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How the frames of an encode are matched with those of its source.

    Attributes:
        frames_source: number of frames of the source.
        frames_encode: number of frames of the encode.
        offset: frames at the start of the encode (negative: of the source) that have no partner
            and are left out. In a conversion they are frames of the source.
        conversion: how the source gets the rate of the encode; None: it has it already, or is
            paired by time.
        ratio: frames of the encode for one of the source, in a conversion; 1: as many.
    """

    frames_source: int
    frames_encode: int
    offset: int = 0
    conversion: Conversion | None = None
    ratio: Fraction = Fraction(1)

    @property
    def mode(self) -> PairingMode:
        """By index where the counts agree, which is exact for any rounding of timestamps."""
        if self.conversion:
            return PairingMode.RATE
        left_in_source, left_in_encode = self._left
        # of two videos of equal length with an offset, one ends later
        is_only_shifted = self.offset and self.frames_source == self.frames_encode
        is_by_index = left_in_source == left_in_encode or is_only_shifted
        return PairingMode.INDEX if is_by_index else PairingMode.TIME

    @property
    def skips(self) -> tuple[int, int]:
        """Frames at the start of the source and of the encode that are left out."""
        if self.conversion is None or self.offset <= 0:
            return max(0, -self.offset), max(0, self.offset)
        # where the pattern of the conversion begins again
        period = (1 / self.ratio).limit_denominator(_MAX_PERIOD).denominator
        in_encode = period * ceil(self.offset * self.ratio / period)
        return max(0, round(in_encode / self.ratio) - self.offset), in_encode

    @property
    def count(self) -> int:
        """Pairs of frames; by time, where each frame of the encode looks for a partner."""
        return self._left[1] if self.mode == PairingMode.TIME else min(self._left)

    @property
    def _left(self) -> tuple[int, int]:
        """Frames of the source, at the encode's rate, and of the encode that may have a partner."""
        in_source, in_encode = self.skips
        left_in_source = self.frames_source - in_source
        if self.conversion:
            left_in_source = int(left_in_source * self.ratio)
        return left_in_source, self.frames_encode - in_encode

    def require_compared(
        self, compared: int, subsample: int, rates: tuple[Fraction, Fraction]
    ) -> None:
        """Raise VmafError if libvmaf compared fewer frames than have a partner.

        Args:
            compared: frames in its log.
            subsample: every n-th frame was measured.
            rates: frames a second of the source and of the encode, which tell a wrong source.
        """
        count = min(self._left)
        # by time, the frames at the ends may lie beyond the other video
        allowed = 0 if self.mode == PairingMode.INDEX else _LOST_BY_TIME
        if compared < -(-(count - allowed) // subsample):
            source_fps, encode_fps = (f"{float(rate):.5g}" for rate in rates)
            reason = (
                "one of the videos changes midway or cannot be read to its end"
                if source_fps == encode_fps
                else f"the source has {source_fps} frames a second and the encode {encode_fps}, so "
                "is it the right source?"
            )
            raise VmafError(
                f"libvmaf compared {compared} frames, and {count} have a partner: {reason}"
            )


def conversion_of(frames_source: int, frames_encode: int, ratio: Fraction) -> Conversion:
    """How a rate was most likely changed, by the numbers of frames: `-r` keeps a few more.

    `ratio` is the encode's rate by the source's.
    """
    if ratio >= 1:
        return Conversion.FILE
    counts = {
        Conversion.FILE: round(frames_source * ratio),
        Conversion.DROP: len(_kept(frames_source, ratio)),
    }
    return min(counts, key=lambda way: abs(counts[way] - frames_encode))


def other_conversions(pairing: Pairing) -> list[Pairing]:
    """The same pair, converted in each of the other ways."""
    assert pairing.conversion
    others = [way for way in Conversion if way not in (pairing.conversion, Conversion.RETIMED)]
    retimed = replace(pairing, conversion=Conversion.RETIMED, ratio=Fraction(1))
    return [retimed, *(replace(pairing, conversion=way) for way in others)]


def paired(stream: VideoNode, source: VideoInfo, pairing: Pairing, skip: int) -> VideoNode:
    """The stream without its first `skip` frames, with timestamps that pair its frames."""
    if skip:
        stream = stream.filter("trim", start_frame=skip)
    if pairing.mode == PairingMode.TIME:
        return from_zero(stream.filter("settb", "AVTB"))
    # one tick per frame: Matroska's rounding to milliseconds cost 20 VMAF at 29.97 fps
    return retime_by_index(stream, source.fps)


def paired_source(stream: VideoNode, source: VideoInfo, pairing: Pairing) -> VideoNode:
    """The stream of the source, to be compared with the encode's, which `paired` gives."""
    skip, _ = pairing.skips
    if pairing.conversion is None:
        return paired(stream, source, pairing, skip)
    if skip:
        stream = stream.filter("trim", start_frame=skip)
    stream = _converted(stream, source.fps, pairing.conversion, pairing.ratio)
    return retime_by_index(stream, source.fps)


def _converted(
    stream: VideoNode, fps: Fraction, conversion: Conversion, ratio: Fraction
) -> VideoNode:
    if conversion == Conversion.RETIMED:
        return stream
    rate = fps * ratio
    if conversion == Conversion.DROP:
        ahead = f"(n+1)*{ratio.numerator}/{ratio.denominator}-selected_n"
        return stream.filter("select", f"gte({ahead},-{_MAX_AHEAD})")
    if conversion == Conversion.FILE:
        return from_zero(stream).filter("fps", fps=f"{rate.numerator}/{rate.denominator}")
    nudge_s = _NUDGE_S if conversion == Conversion.UP else -_NUDGE_S
    clock = f"max(0,N*{fps.denominator}/{fps.numerator}+{nudge_s:f})/TB"
    stream = stream.filter("settb", "1/1000000").filter("setpts", clock)
    return stream.filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=0)


def partners(
    pairing: Pairing, source_times: Sequence[float], encode_times: Sequence[float], fps: Fraction
) -> FrameNumbers:
    """The frame of the source that each frame of the encode is paired with, without an offset.

    Beyond the end of the source they are counted on: a shift may lead back into it.

    Args:
        pairing: how they are paired.
        source_times: when each frame of the source is shown, in seconds; unused by index.
        encode_times: the same of the encode; used by time alone.
        fps: frames a second of the source.
    """
    numbers = np.arange(pairing.frames_encode, dtype=np.int64)
    if pairing.mode == PairingMode.INDEX or pairing.conversion == Conversion.RETIMED:
        return numbers
    if pairing.conversion == Conversion.DROP:
        kept = _kept(pairing.frames_source, pairing.ratio)
        beyond = np.maximum(numbers - len(kept) + 1, 0) / float(pairing.ratio)
        return np.asarray(kept[np.minimum(numbers, len(kept) - 1)] + np.floor(beyond), np.int64)
    if pairing.conversion:
        slots = _slots(pairing, np.asarray(source_times), fps)
        shown = np.maximum(np.searchsorted(slots, numbers, side="right") - 1, 0)
        beyond = np.maximum(numbers - slots[-1], 0) / float(pairing.ratio)
        return np.asarray(shown + np.floor(beyond), np.int64)
    times, wanted = np.asarray(source_times), np.asarray(encode_times)
    last = len(times) - 1
    after = np.clip(np.searchsorted(times, wanted), min(1, last), last)
    before = np.maximum(after - 1, 0)
    nearest = np.where(wanted - times[before] <= times[after] - wanted, before, after)
    beyond = np.round(np.maximum(wanted - times[-1], 0) * float(fps))
    return np.asarray(nearest + beyond, np.int64)


def _slots(pairing: Pairing, times: npt.NDArray[np.float64], fps: Fraction) -> FrameNumbers:
    """The first frame of the encode that may show each frame of the source."""
    if pairing.conversion == Conversion.FILE:
        return np.asarray(np.floor(times * float(fps * pairing.ratio) + 0.5 + 1e-9), np.int64)
    places = np.arange(pairing.frames_source) * pairing.ratio.numerator
    half, whole = pairing.ratio.denominator, 2 * pairing.ratio.denominator
    if pairing.conversion == Conversion.UP:
        return np.asarray((2 * places + half) // whole, np.int64)
    return np.asarray(-((half - 2 * places) // whole), np.int64)


def _kept(count: int, ratio: Fraction) -> FrameNumbers:
    """The frames that `-r` keeps of `count`."""
    kept: list[int] = []
    limit, numerator, denominator = _MAX_AHEAD * ratio.denominator, *ratio.as_integer_ratio()
    for number in range(count):
        if (number + 1) * numerator - len(kept) * denominator >= -limit:
            kept.append(number)
    return np.asarray(kept or [0], np.int64)
