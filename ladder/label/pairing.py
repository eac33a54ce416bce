"""How the frames of an encode are paired with those of its source, in numbers and as filters."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from math import ceil, log2

import numpy as np
import numpy.typing as npt

from ladder.errors import VmafError
from ladder.media.filters import VideoNode, from_zero, retime_by_index
from ladder.media.probe import VideoInfo

FrameNumbers = npt.NDArray[np.int64]
"""Numbers of frames, from 0."""

_LOST_BY_TIME = 2
_MAX_PERIOD = 60  # frames of an encode after which a conversion of the rate repeats
_MAX_AHEAD = 1.1  # slots that ffmpeg's -r runs ahead or behind before it drops or repeats a frame
_GAP = 0.6  # slots of a gap that the frame behind it fills
_GRID, _OFF_HALVES = 2**16, 2**-17  # to which -r rounds times in slots, and moves them off halves
_FINE = 90_000_000  # ticks a second, more than any time base needs here
_OFF_FRACTIONS = 0.381966  # added before rounding down: times in slots are simple fractions
_BITS, _MAX_NUMBERS = 50, 3000  # of a number of ffmpeg's; numbers that fit into one argument
_LAST_HELD = 3  # times that -r may repeat the last frame
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

    `-r` (and `-fps_mode cfr`) takes frames as they come: a frame gets the next slot, as long as its
    end is no more than 1.1 slots from where this slot ends (`video_sync_process` in ffmpeg 9's
    fftools/ffmpeg_filter.c).
    """

    RETIMED = "all frames at another speed"
    FILE = "fps by the timestamps of the file"
    UP = "fps, halves up"
    DOWN = "fps, halves down"
    DROP = "-r, which drops or repeats a frame where it is 1.1 frames off"


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
        num_slots: frames that a source with a variable rate has at the encode's rate, without
            those that are left out; None: its rate is constant.
        late_s: seconds from the start of the conversion to the first frame of the source.
        moves: of a variable rate converted by `-r`, how many slots each frame of the source is
            first shown after the one of its time, rounded down.
    """

    frames_source: int
    frames_encode: int
    offset: int = 0
    conversion: Conversion | None = None
    ratio: Fraction = Fraction(1)
    num_slots: int | None = None
    late_s: Fraction = Fraction(0)
    moves: tuple[int, ...] = field(default=(), repr=False)

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
            left_in_source = self.slots_of(left_in_source)
        return left_in_source, self.frames_encode - in_encode

    def slots_of(self, frames: int) -> int:
        """Frames of the encode that so many of the source, or all that are left of it, give."""
        return int(frames * self.ratio) if self.num_slots is None else self.num_slots

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

    `ratio` is the encode's rate by the source's, which is constant.
    """
    if ratio >= 1:
        return Conversion.FILE
    each = np.full(frames_source, float(ratio))
    kept = _starts(each * np.arange(frames_source), each)
    counts = {Conversion.FILE: round(frames_source * ratio), Conversion.DROP: int(kept[-1]) + 1}
    return min(counts, key=lambda way: abs(counts[way] - frames_encode))


def other_conversions(pairing: Pairing) -> list[Pairing]:
    """The same pair, converted in each of the other ways, of a constant rate."""
    assert pairing.conversion
    others = [way for way in Conversion if way not in (pairing.conversion, Conversion.RETIMED)]
    retimed = replace(pairing, conversion=Conversion.RETIMED, ratio=Fraction(1))
    return [retimed, *(replace(pairing, conversion=way) for way in others)]


def conversions_by_time(
    pairing: Pairing,
    times: Sequence[float],
    lasts: Sequence[float],
    fps: Fraction,
    late_s: Fraction = Fraction(0),
) -> list[Pairing]:
    """The same pair, converted by the filter `fps` and by `-r`, of a variable rate.

    Args:
        pairing: how the frames would be paired else.
        times: when each frame of the source is shown, in seconds.
        lasts: how long, in seconds (`lengths.frame_lasts`).
        fps: frames a second of the source, on average.
        late_s: seconds from the start of the conversion to the first frame.
    """
    by_fps = replace(pairing, conversion=Conversion.FILE, late_s=late_s, moves=())
    rate = float(fps * pairing.ratio)
    places = (np.asarray(times) + float(late_s)) * rate
    moves = _starts(places, np.asarray(lasts) * rate) - _floors(places)
    by_r = replace(by_fps, conversion=Conversion.DROP, moves=tuple(moves.tolist()))
    is_short = len(moves) <= _MAX_NUMBERS * _packing(by_r.moves)[2]
    return [by_fps, by_r] if is_short else [by_fps]


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
    stream = _converted(stream, source.fps, pairing)
    return retime_by_index(stream, source.fps)


def _converted(stream: VideoNode, fps: Fraction, pairing: Pairing) -> VideoNode:
    if pairing.conversion == Conversion.RETIMED:
        return stream
    rate = fps * pairing.ratio
    if pairing.conversion == Conversion.FILE:
        stream = from_zero(stream)
        if pairing.late_s:
            stream = stream.filter("setpts", f"PTS+{float(pairing.late_s):.9f}/TB")
        return stream.filter("fps", fps=f"{rate.numerator}/{rate.denominator}")
    if pairing.conversion == Conversion.DROP and not pairing.moves:
        ahead = f"(n+1)*{pairing.ratio.numerator}/{pairing.ratio.denominator}-selected_n"
        return stream.filter("select", f"gte({ahead},-{_MAX_AHEAD})")
    if pairing.conversion == Conversion.DROP:
        by_tb = f"TB*{rate.numerator}/{rate.denominator}"
        late = float(pairing.late_s * rate) + _OFF_FRACTIONS
        clock = f"(floor((PTS-STARTPTS)*{by_tb}+{late:.9f})+{_packed(pairing.moves)})/({by_tb})"
        stream = stream.filter("settb", f"1/{_FINE}").filter("setpts", clock)
        stream = stream.filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=0)
        return stream.filter("tpad", stop=_LAST_HELD, stop_mode="clone")
    nudge_s = _NUDGE_S if pairing.conversion == Conversion.UP else -_NUDGE_S
    clock = f"max(0,N*{fps.denominator}/{fps.numerator}+{nudge_s:f})/TB"
    stream = stream.filter("settb", "1/1000000").filter("setpts", clock)
    return stream.filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=0)


def _packed(moves: Sequence[int]) -> str:
    """An expression of ffmpeg for the move of frame N; of the end, which is later than the last.

    A filter cannot read a table: each number in the expression holds several moves, and a tree of
    conditions leads to it.
    """
    moves = (*moves, moves[-1] + 1)
    least, base, each = _packing(moves)
    numbers = [
        sum((move - least) * base**place for place, move in enumerate(moves[at : at + each]))
        for at in range(0, len(moves), each)
    ]

    def tree(low: int, high: int) -> str:
        if high - low == 1:
            return str(numbers[low])
        middle = (low + high) // 2
        return f"if(lt(N,{middle * each}),{tree(low, middle)},{tree(middle, high)})"

    return f"mod(floor({tree(0, len(numbers))}/pow({base},mod(N,{each}))),{base})+{least}"


def _packing(moves: Sequence[int]) -> tuple[int, int, int]:
    """The least move, how many moves there may be, and how many of them one number holds."""
    least = min(moves)
    base = max(2, max(moves) - least + 1)
    return least, base, max(1, int(_BITS / log2(base)))


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
    if pairing.conversion:
        slots = _slots(pairing, np.asarray(source_times), fps)
        if pairing.conversion == Conversion.FILE:
            slots -= slots[0]
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
    rate = float(fps * pairing.ratio)
    places = (times + float(pairing.late_s)) * rate
    if pairing.conversion == Conversion.FILE:
        return np.asarray(np.floor(places + 0.5 + 1e-9), np.int64)
    if pairing.conversion == Conversion.DROP:
        if pairing.moves:
            return _floors(places) + np.asarray(pairing.moves, np.int64)
        each = np.full(pairing.frames_source, float(pairing.ratio))
        return _starts(each * np.arange(len(each)), each)
    counted = np.arange(pairing.frames_source) * pairing.ratio.numerator
    half, whole = pairing.ratio.denominator, 2 * pairing.ratio.denominator
    if pairing.conversion == Conversion.UP:
        return np.asarray((2 * counted + half) // whole, np.int64)
    return np.asarray(-((half - 2 * counted) // whole), np.int64)


def _floors(places: npt.NDArray[np.float64]) -> FrameNumbers:
    return np.asarray(np.floor(places + _OFF_FRACTIONS), np.int64)


def _starts(places: npt.NDArray[np.float64], lasts: npt.NDArray[np.float64]) -> FrameNumbers:
    """The first slot in which `-r` shows each frame, by when it is shown and how long, in slots."""
    places = np.round(places * _GRID) / _GRID
    places += _OFF_HALVES * (places != np.round(places))
    lasts = np.round(lasts * _GRID * 16) / (_GRID * 16)
    starts, slot = np.empty(len(places), np.int64), 0
    for index, (place, last) in enumerate(zip(places.tolist(), lasts.tolist(), strict=True)):
        ahead = place - slot
        starts[index] = slot + (round(ahead - _GAP) if ahead > _MAX_AHEAD else 0)
        off = ahead + last
        if off > _MAX_AHEAD:
            slot += round(off)
        elif off >= -_MAX_AHEAD:
            slot += 1
    return starts
