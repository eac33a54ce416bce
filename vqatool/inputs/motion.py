"""Motion features: the luma difference of the first two frames of each frame group.

Motion hides artefacts, and VMAF contains it: mean luma difference is one of its three elementary
metrics ("Toward A Practical Perceptual Video Quality Metric", Netflix 2016). Fragments come from
another place in each frame, so a network cannot compute it from them. The features are ours.

Shapes: T frame groups, C channels, H height, W width, K features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqatool.inputs.clip import Clip

NUM_MOTION_FEATURES = 5
_EVERY = 2  # stride of the pixels along both axes, which is enough for means
_SQUARE = 4  # side of the squares, samples: their means lose noise and keep motion
_MIN_CHANGE = 0.1  # added to differences before the logarithm, 8 bit samples
_MAX_EQUAL = 0.5  # difference of samples that count as equal, 8 bit samples
_LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
_BUSY_QUANTILE = 0.9  # of the changes of the large squares


def motion_vector(clip: Clip, *, generator: torch.Generator | None = None) -> Tensor:
    """Motion features (T, K) of each frame group, float32, about unit deviation.

    log2 of the mean absolute luma difference of squares of 1, 4 and 16 samples a side; log2 of the
    0.9 quantile of those of 16; the share of equal samples, scaled to -1 to 1. All are 0 for groups
    of one frame, such as pictures.

    Args:
        clip: frames of any size, uint8.
        generator: not used; a view has it.
    """
    if clip.second_TCHW is None:
        return torch.zeros(len(clip.first_TCHW), NUM_MOTION_FEATURES)
    pairs = zip(clip.first_TCHW, clip.second_TCHW, strict=True)
    return torch.stack([_features(_change(before, after)) for before, after in pairs])


def _features(change_HW: Tensor) -> Tensor:
    small_HW = F.avg_pool2d(change_HW[None], _SQUARE, ceil_mode=True)
    large_HW = F.avg_pool2d(small_HW, _SQUARE, ceil_mode=True)
    moves = [changes.abs() for changes in (change_HW, small_HW, large_HW)]
    parts = [move.mean() for move in moves] + [moves[-1].flatten().quantile(_BUSY_QUANTILE)]
    equal = (moves[0] < _MAX_EQUAL).float().mean()
    return torch.stack([*(torch.log2(part + _MIN_CHANGE) / 2 for part in parts), 2 * equal - 1])


def _change(before_CHW: Tensor, after_CHW: Tensor) -> Tensor:
    """(H, W) luma difference, 8 bit samples."""
    # channels last as decoded, and 16 bits: both save memory traffic
    before_HWC, after_HWC = (
        picture_CHW.permute(1, 2, 0)[::_EVERY, ::_EVERY].to(torch.int16)
        for picture_CHW in (before_CHW, after_CHW)
    )
    return (after_HWC - before_HWC).float() @ torch.tensor(_LUMA)
