"""A video file -> the inputs of a model: frames are sampled, scaled and made into views."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ladder.media.decode import display_size, frames_at, uniform_times
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.headers import coded_pictures
from ladder.media.probe import LENIENT, Decoding, VideoInfo, probe
from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM, bitstream_features
from vqatool.inputs.clip import Array, Clip, FrameGroup, View


@dataclass(frozen=True)
class ClipPreprocessor:
    """How a video becomes the inputs of one model, without the model: workers receive a copy.

    Attributes:
        views: one for each input of the model.
        num_frame_groups: frame groups sampled from a clip.
        frame_group: frames of each.
        ffmpeg: program that reads the stream's headers; None leaves bitstream features unknown.
        threads: decoder threads; 0: as many as there are cores.
    """

    views: tuple[View, ...]
    num_frame_groups: int
    frame_group: FrameGroup
    ffmpeg: Ffmpeg | None
    threads: int = 0

    def load_views(
        self,
        info: VideoInfo,
        display: tuple[int, int] | None,
        *,
        start_s: float = 0.0,
        length_s: float | None = None,
        is_strict: bool = False,
    ) -> list[Array]:
        """The model's views of a part of a video; arguments and errors are those of `read_clip`."""
        clip = read_clip(
            info,
            self.num_frame_groups,
            self.frame_group,
            display,
            start_s=start_s,
            length_s=length_s,
            ffmpeg=self.ffmpeg,
            decoding=Decoding(self.threads, is_strict),
        )
        return self.preprocess(clip)

    def preprocess(self, clip: Clip) -> list[Array]:
        """The model's views of one clip, without augmentation."""
        return preprocess(self.views, clip)


def preprocess(views: Sequence[View], clip: Clip) -> list[Array]:
    """Every view of one clip, without augmentation."""
    return [view(clip, generator=None) for view in views]


def decode_views(
    path: Path, preprocessor: ClipPreprocessor, display: tuple[int, int] | None
) -> list[Array]:
    """The views of a whole video: a task for a worker of a `DecodePool`.

    Raises:
        VideoError: the file cannot be decoded.
    """
    return preprocessor.load_views(probe(path), display)


def read_clip(
    info: VideoInfo,
    num_frame_groups: int,
    frame_group: FrameGroup,
    display: tuple[int, int] | None,
    *,
    start_s: float = 0.0,
    length_s: float | None = None,
    ffmpeg: Ffmpeg | None = None,
    decoding: Decoding = LENIENT,
) -> Clip:
    """Frame groups spread evenly over a part of a video, scaled to the display.

    Args:
        info: the facts of the file, from `probe`.
        num_frame_groups: how many; they start in the middles of equal parts.
        frame_group: frames of each; closer together where the next group is too near.
        display: (width, height) of the screen, px; None scores pixel for pixel.
        start_s: where the part begins.
        length_s: length of the part; None: to the end.
        ffmpeg: program that reads the stream's headers; None leaves bitstream features unknown.
        decoding: threads and strictness.

    Raises:
        VideoError: the file cannot be decoded.
    """
    size = display_size(info, display)
    rest_s = info.duration_s - start_s if length_s is None else length_s
    times_s = sample_times(start_s, rest_s, num_frame_groups, frame_group, float(info.fps))
    pixels_THWC = frames_at(info, times_s, size, decoding)
    features = UNKNOWN_BITSTREAM
    if ffmpeg:
        pictures = coded_pictures(info, ffmpeg, start_s=start_s, length_s=length_s)
        features = bitstream_features(info, pictures, size)
    pixels_TCHW = pixels_THWC.transpose(0, 3, 1, 2)
    return Clip(pixels_TCHW, frame_group.num_frames, features)


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
