"""Whether an encode begins with the same frame as its source, and by how many it is late if not."""

import numpy as np

from ladder.frames import Pixels, first_luma
from ladder.pieces import Piece, snapped
from ladder.probe import VideoInfo

_FRAMES, _REACH, _SIZE = 25, 8, (160, 90)
_CLEAR_WIN = 0.6


def opening(video: VideoInfo, pieces: tuple[Piece, ...] = ()) -> Pixels:
    """The first frames of a video (or of the first piece of it), small: (T, 90, 160) luma."""
    if not pieces:
        return first_luma(video, _FRAMES, _SIZE)
    start, length = snapped(pieces[0], video.fps)
    count = min(_FRAMES, round(length * video.fps))  # the next piece is another scene
    return first_luma(video, count, _SIZE, float(start))


def frame_offset(encoded: Pixels, original: Pixels) -> int:
    """Frames by which the encode lags behind its source (negative: leads), 8 at the most.

    0 unless another offset matches clearly better, so a still scene or a poor encode is not
    blamed.

    Args:
        encoded: `opening` of the encode.
        original: `opening` of the source.
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
