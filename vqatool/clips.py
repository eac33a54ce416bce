"""What a model is shown of a video: chosen frames, and what the stream says of its own coding.

The pixel convention relied on everywhere: RGB, uint8 in files, arrays and caches; float32 in [0, 1]
from `as_float` onward; mean and deviation are the model's own business. Pixels are (T, C, H, W) at
display size; an image is a clip with T = 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ladder.ffmpeg import Ffmpeg
from ladder.frames import display_size, frames_at, spread
from ladder.probe import VideoInfo
from ladder.stream import coded_pictures
from vqatool.stream import UNKNOWN, StreamFacts, stream_facts


class Clip(NamedTuple):
    """Frames (T, 3, H, W) uint8 of a part of a video, and the facts of that part's stream.

    `following_TCHW` is the frame on the screen after each; None where that is not known.
    """

    pixels_TCHW: Tensor
    following_TCHW: Tensor | None = None
    stream: StreamFacts = UNKNOWN


def read_clip(
    info: VideoInfo,
    frames: int,
    display: tuple[int, int] | None,
    *,
    start_s: float = 0.0,
    length_s: float | None = None,
    ffmpeg: Ffmpeg | None = None,
) -> Clip:
    """`frames` frames spread over a part of a video, scaled to the display they are judged on.

    Args:
        info: what `probe` said of the file.
        frames: how many, the middles of equal parts.
        display: (width, height) of the screen, px; None judges pixel for pixel.
        start_s: where the part begins.
        length_s: how long it is; None takes all the rest.
        ffmpeg: program that reads the stream's headers; None leaves its facts unknown.

    Raises:
        VideoError: the file cannot be decoded.
    """
    size = display_size(info, display)
    rest_s = info.duration_s - start_s if length_s is None else length_s
    # not beyond the next chosen time, where those lie closer than frames
    step_s = min(1 / float(info.fps), rest_s / frames)
    times_s = [
        moment for time_s in spread(start_s, rest_s, frames) for moment in (time_s, time_s + step_s)
    ]
    pixels_THWC = frames_at(info, times_s, size)
    facts = UNKNOWN
    if ffmpeg:
        pictures = coded_pictures(info, ffmpeg, start_s=start_s, length_s=length_s)
        facts = stream_facts(info, pictures, size)
    pixels_TCHW = torch.from_numpy(pixels_THWC).permute(0, 3, 1, 2)
    return Clip(pixels_TCHW[::2], pixels_TCHW[1::2], facts)


def is_pixels(view: Tensor) -> bool:
    """Whether a view of one clip is pixels (T, C, h, w), not figures (T, K) or (F,)."""
    return view.ndim == 4


def stack(views: Sequence[Tensor]) -> Tensor:
    """The same view of several clips as one batch: pixels become float32 in [0, 1]."""
    batch = torch.stack(list(views))
    return as_float(batch) if batch.dtype == torch.uint8 else batch


def as_float(clip: Tensor) -> Tensor:
    """uint8 of any shape -> float32 in [0, 1]."""
    return clip.float() / 255
