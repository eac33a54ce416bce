"""A video file -> the inputs of a model: frames are sampled, scaled and made into views."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ladder.errors import VideoError
from ladder.media.container import LENIENT, Decoding
from ladder.media.decode import SeenFrames, display_size, each_frame_at, uniform_times
from ladder.media.headers import CodedPicture, coded_pictures_of
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import TimeRange
from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM, BitstreamFeatures, bitstream_features
from vqatool.inputs.clip import (
    Array,
    Clip,
    FrameGroup,
    GroupedView,
    View,
    finished,
    views_of_groups,
)
from vqatool.inputs.skim import Look, looks

_FULL_LENGTH_S, _LEAST_SHARE = 20.0, 0.5
"""A segment of this length or more has all frame groups; all of a video have half at least."""

_NO_PIXELS_TCHW = np.empty((0, 3, 1, 1), np.uint8)


@dataclass(frozen=True)
class ClipPreprocessor:
    """How a video becomes the inputs of one model, without the model: workers receive a copy.

    Attributes:
        views: one for each input of the model.
        num_frame_groups: frame groups sampled from a clip.
        frame_group: frames of each.
        reads_stream: whether to read the bitstream features; else they are unknown.
        threads: decoder threads; 0: as many as there are cores.
        hardware: name of the hardware decoder; empty: none.
        is_divisible: whether the model takes any number of frame groups.
    """

    views: tuple[View, ...]
    num_frame_groups: int
    frame_group: FrameGroup
    reads_stream: bool
    threads: int = 0
    hardware: str = ""
    is_divisible: bool = False

    def of_segment(self, length_s: float, num_segments: int) -> "ClipPreprocessor":
        """The same for one of several segments of a video: a short one has fewer frame groups.

        So short segments cost as much as long ones, and show a bad stretch that is lost in those.
        Four segments of 2.5 s with one group each were as near to VMAF as with two each
        (docs/experiments.md, "Short segments").
        """
        if not self.is_divisible:
            return self
        by_length = round(min(1.0, length_s / _FULL_LENGTH_S) * self.num_frame_groups)
        least = math.ceil(_LEAST_SHARE * self.num_frame_groups / num_segments)
        return replace(self, num_frame_groups=max(by_length, least))

    def load_views(
        self,
        info: VideoInfo,
        display: tuple[int, int] | None,
        part: TimeRange | None = None,
        *,
        is_strict: bool = False,
    ) -> list[Array]:
        """What workers make of a part of a video, or of all of it.

        These are the model's views, some not `finished` yet. Errors are those of `read_parts`.
        """
        (loaded,) = self.load_parts(info, display, [part], is_strict=is_strict)
        return loaded.views

    def load_parts(
        self,
        info: VideoInfo,
        display: tuple[int, int] | None,
        parts: Sequence[TimeRange | None],
        *,
        is_strict: bool = False,
        seen: SeenFrames | None = None,
        skims: bool = False,
    ) -> Iterator["LoadedPart"]:
        """The same of each of several parts, decoded in one pass; `seen` is as in `read_parts`.

        With `skims` some parts have the pixels of others, as `skim.looks` chooses. Whether packets
        of a part are or may be damaged is known where the bitstream is read.
        """
        size = display_size(info, display)
        pictures = coded_pictures_of(info, parts) if self.reads_stream else []
        features = [bitstream_features(info, each, size) for each in pictures]
        ranges = [part for part in parts if part]
        chosen = list(map(_itself, range(len(parts)), parts))
        if skims and self._can_skim(info) and len(ranges) == len(parts) == len(pictures):
            chosen = looks(ranges, pictures, features)
        own = [look.source == index for index, look in enumerate(chosen)]
        states = list(map(_state_of, pictures)) or [PacketState.READABLE] * len(parts)
        clips = read_parts(
            info,
            [look.place for look, is_own in zip(chosen, own, strict=True) if is_own],
            self.num_frame_groups,
            self.frame_group,
            display,
            features=list(itertools.compress(features, own)),
            decoding=Decoding(self.threads, is_strict, self.hardware),
            seen=seen,
        )
        views: list[Array] = []
        for index, is_own in enumerate(own):
            if is_own:
                views = self._views_of(next(clips))
                yield LoadedPart(views, self.num_frame_groups, states[index])
            else:
                own_stream = self._with_stream(views, features[index])
                yield LoadedPart(own_stream, 0, states[index])

    def _can_skim(self, info: VideoInfo) -> bool:
        """Whether the model knows the packets, the packets their times, and a decoder can seek."""
        views = [view for view in self.views if isinstance(view, GroupedView)]
        is_possible = self.is_divisible and len(views) == len(self.views)
        can_seek = not (info.is_bare or info.is_timed_by_dts or info.is_timed_by_order)
        return is_possible and can_seek and any(view.is_of_stream for view in views)

    def _views_of(self, groups: Iterator[Clip]) -> list[Array]:
        grouped = [view for view in self.views if isinstance(view, GroupedView)]
        if len(grouped) == len(self.views):
            return views_of_groups(grouped, groups)
        return self.preprocess(joined(groups))

    def _with_stream(self, views: Sequence[Array], features: BitstreamFeatures) -> list[Array]:
        """The views of another part, but with these features."""
        clip = Clip(_NO_PIXELS_TCHW, bitstream=features)
        return [
            views_of_groups([view], iter([clip]))[0]
            if isinstance(view, GroupedView) and view.is_of_stream
            else array
            for view, array in zip(self.views, views, strict=True)
        ]

    def preprocess(self, clip: Clip) -> list[Array]:
        """The same of one clip that is in memory."""
        return _joined_views(self.views, clip)


class PacketState(Enum):
    """What a part's packets are like, without a look at their pixels."""

    READABLE = auto()
    DOUBTFUL = auto()
    DAMAGED = auto()


class LoadedPart(NamedTuple):
    """A part of a video: its views, and the frame groups of its own that were decoded for them."""

    views: list[Array]
    num_frame_groups: int
    packets: PacketState = PacketState.READABLE


def _state_of(pictures: Sequence[CodedPicture]) -> PacketState:
    """That of the worst one."""
    if any(picture.is_damaged for picture in pictures):
        return PacketState.DAMAGED
    is_doubtful = any(picture.is_doubtful for picture in pictures)
    return PacketState.DOUBTFUL if is_doubtful else PacketState.READABLE


def _itself(index: int, part: TimeRange | None) -> Look:
    return Look(index, part)


def preprocess(views: Sequence[View], clip: Clip) -> list[Array]:
    """Every view of one clip, finished, without augmentation."""
    return finished(views, _joined_views(views, clip))


def _joined_views(views: Sequence[View], clip: Clip) -> list[Array]:
    return [
        views_of_groups([view], iter([clip]))[0]
        if isinstance(view, GroupedView)
        else view(clip, generator=None)
        for view in views
    ]


def decode_views(
    path: Path, preprocessor: ClipPreprocessor, display: tuple[int, int] | None
) -> list[Array]:
    """The views of a whole video: a task for a worker of a `DecodePool`.

    Raises:
        VideoError: the file cannot be decoded.
    """
    return preprocessor.load_views(probe(path), display)


def require_sdr(info: VideoInfo) -> None:
    """Raise VideoError if the frames of a video are HDR, which no model here was trained on."""
    if info.hdr_of_frames:
        raise VideoError(
            "hdr",
            f"{info.path} is HDR ({info.hdr}), for which neither VMAF nor the model was made, so "
            "it gets no score: --tonemap scores it as SDR",
        )


def read_clip(
    info: VideoInfo,
    num_frame_groups: int,
    frame_group: FrameGroup,
    display: tuple[int, int] | None,
    *,
    reads_stream: bool = False,
    decoding: Decoding = LENIENT,
) -> Clip:
    """A whole video as one clip, with or without its bitstream features.

    Other arguments, and errors, are those of `read_parts`.
    """
    size = display_size(info, display)
    pictures = coded_pictures_of(info, [None]) if reads_stream else []
    (clip,) = map(
        joined,
        read_parts(
            info,
            [None],
            num_frame_groups,
            frame_group,
            display,
            features=[bitstream_features(info, each, size) for each in pictures],
            decoding=decoding,
        ),
    )
    return clip


def joined(groups: Iterator[Clip]) -> Clip:
    """The clip of all its groups, one of those that `read_parts` gives."""
    copies = [group._replace(pixels_TCHW=group.pixels_TCHW.copy(order="K")) for group in groups]
    pixels_TCHW = np.concatenate([each.pixels_TCHW for each in copies])
    return copies[0]._replace(pixels_TCHW=pixels_TCHW)


def read_parts(
    info: VideoInfo,
    parts: Sequence[TimeRange | None],
    num_frame_groups: int,
    frame_group: FrameGroup,
    display: tuple[int, int] | None,
    *,
    features: Sequence[BitstreamFeatures] = (),
    decoding: Decoding = LENIENT,
    seen: SeenFrames | None = None,
) -> Iterator[Iterator[Clip]]:
    """A clip of each part of a video, as frame groups spread evenly over it, one at a time.

    The parts are decoded in one pass: each must be read to its end before the next one. All groups
    are scaled to the display and have the same memory for their pixels: those of a group are gone
    with the next one.

    Args:
        info: the facts of the file, from `probe`.
        parts: ascending; None: all of the video.
        num_frame_groups: how many of a part; they start in the middles of equal pieces of it.
        frame_group: frames of each; closer together where the next group is too near.
        display: (width, height) of the screen, px; None scores pixel for pixel.
        features: of the bitstream, of each part; none: they are unknown.
        decoding: threads, strictness, hardware. FFmpeg's log is read for the features, and the
            threads of a decoder log as well, so that they are read first.
        seen: gets what the frames are like.

    Raises:
        VideoError: the file cannot be decoded.
    """
    size = display_size(info, display)
    times_s: list[float] = []
    for part in parts:
        start_s, length_s = (part.start_s, part.length_s) if part else (0.0, info.duration_s)
        fps = float(info.fps)
        times_s += sample_times(start_s, length_s, num_frame_groups, frame_group, fps)
    pictures_HWC = each_frame_at(info, times_s, size, decoding, seen)
    pixels_THWC = np.empty((frame_group.num_frames, size[1], size[0], 3), np.uint8)

    def groups_of(stream: BitstreamFeatures) -> Iterator[Clip]:
        for index in range(num_frame_groups):
            for number, picture_HWC in enumerate(islice(pictures_HWC, frame_group.num_frames)):
                pixels_THWC[number] = picture_HWC
            pixels_TCHW = pixels_THWC.transpose(0, 3, 1, 2)
            yield Clip(pixels_TCHW, frame_group.num_frames, stream, index, num_frame_groups)

    return map(groups_of, features or [UNKNOWN_BITSTREAM] * len(parts))


def sample_times(
    start_s: float, length_s: float, num_frame_groups: int, frame_group: FrameGroup, fps: float
) -> list[float]:
    """Times in seconds of the frames of all frame groups, ascending."""
    # not beyond the next group, where groups lie closer than frames
    max_step_s = length_s / num_frame_groups / max(1, frame_group.num_frames - 1)
    step_s = min(frame_group.stride / fps, max_step_s)
    starts_s = uniform_times(start_s, length_s, num_frame_groups)
    return [
        begin_s + step_s * index for begin_s in starts_s for index in range(frame_group.num_frames)
    ]
