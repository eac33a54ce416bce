"""What a model is shown of a video: chosen frames, and what the stream says of its own coding.

The pixel convention relied on everywhere: RGB, uint8 in files, arrays and caches; float32 in [0, 1]
from vqatool.inputs.clip import Burst, Clip, View
from `as_float` onward; mean and deviation are the model's own business. Pixels are (T, C, H, W) at
display size; an image is a clip with T = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ladder.media.decode import display_size, frames_at, uniform_times
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.headers import coded_pictures
from ladder.media.probe import LENIENT, Decoding, VideoInfo
from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM, bitstream_features
from vqatool.inputs.clip import Clip, FrameGroup, View


@dataclass(frozen=True)
class ClipPreprocessor:
    """How a model looks at videos, without the model: fit to be sent to another process.

    It looks at `num_frame_groups` bursts. `ffmpeg` reads the stream's headers; None leaves its facts unknown.
    `threads` decode; 0: as many as there are cores.
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
    ) -> list[Tensor]:
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

    def preprocess(self, clip: Clip) -> list[Tensor]:
        """The model's views of one clip, small; nothing in them is left to chance."""
        return preprocess(self.views, clip)


def preprocess(views: Sequence[View], clip: Clip) -> list[Tensor]:
    """One clip through every view, without chance."""
    return [view(clip, generator=None) for view in views]


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
    """Bursts of frames spread over a part of a video, scaled to the display they are judged on.

    Args:
        info: what `probe` said of the file.
        bursts: how many; they start in the middles of equal parts.
        burst: frames of each; closer together where the next burst is too near.
        display: (width, height) of the screen, px; None judges pixel for pixel.
        start_s: where the part begins.
        length_s: how long it is; None takes all the rest.
        ffmpeg: program that reads the stream's headers; None leaves its facts unknown.
        decoding: how.

    Raises:
        VideoError: the file cannot be decoded.
    """
    size = display_size(info, display)
    rest_s = info.duration_s - start_s if length_s is None else length_s
    times_s = sample_times(start_s, rest_s, num_frame_groups, frame_group, float(info.fps))
    pixels_THWC = frames_at(info, times_s, size, decoding)
    facts = UNKNOWN_BITSTREAM
    if ffmpeg:
        pictures = coded_pictures(info, ffmpeg, start_s=start_s, length_s=length_s)
        facts = bitstream_features(info, pictures, size)
    return Clip(torch.from_numpy(pixels_THWC).permute(0, 3, 1, 2), frame_group.num_frames, facts)


def sample_times(
    start_s: float, length_s: float, num_frame_groups: int, frame_group: FrameGroup, fps: float
) -> list[float]:
    """Seconds at which the frames of all bursts are shown, ascending."""
    # not beyond the next burst, where bursts lie closer than frames
    most_s = length_s / num_frame_groups / max(1, frame_group.num_frames - 1)
    step_s = min(frame_group.stride / fps, most_s)
    starts_s = uniform_times(start_s, length_s, num_frame_groups)
    return [
        begin_s + step_s * index for begin_s in starts_s for index in range(frame_group.num_frames)
    ]
