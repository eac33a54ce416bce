"""Motion features: the luma difference of the first two frames of each frame group.

Motion hides artefacts, and VMAF contains it: mean luma difference is one of its three elementary
metrics ("Toward A Practical Perceptual Video Quality Metric", Netflix 2016). Fragments come from
another place in each frame, so a network cannot compute it from them. The features are ours.

Shapes: T frame groups, C channels, H height, W width, K features.
"""

import numpy as np
import numpy.typing as npt

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.readable import ReadableFigure

_Floats = npt.NDArray[np.float32]

NUM_MOTION_FEATURES = 5
_EVERY = 2  # stride of the pixels along both axes, which is enough for means
_SQUARE = 4  # side of the squares, samples: their means lose noise and keep motion
_MIN_CHANGE = 0.1  # added to differences before the logarithm, 8 bit samples
_MAX_EQUAL = 0.5  # difference of samples that count as equal, 8 bit samples
_LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
_BUSY_QUANTILE = 0.9  # of the changes of the large squares


def _samples(value: float) -> float:
    return float(2 ** (2 * value)) - _MIN_CHANGE


def _percent(value: float) -> float:
    return 50 * (value + 1)


READABLE_MOTION = (
    ReadableFigure("change from frame to frame", "samples", 0, _samples, 2),
    ReadableFigure("samples that stay equal", "%", 4, _percent, 0),
)
"""What of the features people can read; samples have 8 bits."""


def motion_vector(clip: Clip, *, generator: np.random.Generator | None = None) -> _Floats:
    """Motion features (T, K) of each frame group, float32, about unit deviation.

    log2 of the mean absolute luma difference of squares of 1, 4 and 16 samples a side; log2 of the
    0.9 quantile of those of 16; the share of equal samples, scaled to -1 to 1. All are 0 for groups
    of one frame, such as pictures.

    Args:
        clip: frames of any size, uint8.
        generator: not used; a view has it.
    """
    if clip.second_TCHW is None:
        return np.zeros((len(clip.first_TCHW), NUM_MOTION_FEATURES), np.float32)
    pairs = zip(clip.first_TCHW, clip.second_TCHW, strict=True)
    return np.stack([_features(_change(before, after)) for before, after in pairs])


def _features(change_HW: _Floats) -> _Floats:
    small_HW = _means_of_squares(change_HW)
    large_HW = _means_of_squares(small_HW)
    moves = [np.abs(changes) for changes in (change_HW, small_HW, large_HW)]
    parts = [move.mean() for move in moves] + [np.quantile(moves[-1], _BUSY_QUANTILE)]
    equal = np.count_nonzero(moves[0] < _MAX_EQUAL) / moves[0].size
    logarithms = np.log2(np.array(parts) + _MIN_CHANGE) / 2
    return np.array([*logarithms, 2 * equal - 1], np.float32)


def _means_of_squares(values_HW: _Floats) -> _Floats:
    """Means of squares of `_SQUARE` samples a side; those at the end may have fewer."""
    return _means_of_rows(_means_of_rows(values_HW).T).T


def _means_of_rows(values_HW: _Floats) -> _Floats:
    """Means of `_SQUARE` rows each."""
    sums = values_HW[::_SQUARE].copy(order="K")
    for start in range(1, _SQUARE):
        rows = values_HW[start::_SQUARE]
        sums[: len(rows)] += rows
    starts = _SQUARE * np.arange(len(sums))
    counts = np.minimum(_SQUARE, len(values_HW) - starts).astype(np.float32)
    sums /= counts[:, None]
    return sums


def _change(before_CHW: Array, after_CHW: Array) -> _Floats:
    """(H, W) luma difference, 8 bit samples."""
    # one channel after the other takes less time than a product of matrices
    change_HW = np.zeros(before_CHW[0, ::_EVERY, ::_EVERY].shape, np.float32)
    for before_HW, after_HW, weight in zip(before_CHW, after_CHW, _LUMA, strict=True):
        change_HW += np.float32(weight) * np.subtract(
            after_HW[::_EVERY, ::_EVERY], before_HW[::_EVERY, ::_EVERY], dtype=np.int16
        )
    return change_HW
