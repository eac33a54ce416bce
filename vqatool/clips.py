"""Which frames of a video a model sees, as a clip tensor.

The pixel convention relied on everywhere: RGB, uint8 in files, arrays and caches; float32 in [0, 1]
from `as_float` onward; mean and deviation are the model's own business. A clip is (T, C, H, W) at
display size; an image is a clip with T = 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ladder.frames import display_size, frames_at
from ladder.probe import VideoInfo


def read_clip(info: VideoInfo, times_s: Sequence[float], display: tuple[int, int] | None) -> Tensor:
    """The frames shown at `times_s`, scaled to the display they are judged on.

    Args:
        info: what `probe` said of the file.
        times_s: ascending seconds.
        display: (width, height) of the screen, px; None judges pixel for pixel.

    Returns:
        (T, 3, H, W) uint8.

    Raises:
        VideoError: the file cannot be decoded.
    """
    pixels_THWC = frames_at(info, times_s, display_size(info, display))
    return torch.from_numpy(pixels_THWC).permute(0, 3, 1, 2)


def as_float(clip: Tensor) -> Tensor:
    """uint8 of any shape -> float32 in [0, 1]."""
    return clip.float() / 255
