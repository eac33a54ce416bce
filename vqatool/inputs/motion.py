"""How much moves from the first frame of each burst to the second.

An eye forgives damage in what moves, and VMAF counts on it: of two contents coded alike, what moves
more scores otherwise ("Toward A Practical Perceptual Video Quality Metric", Netflix 2016, has mean
luma difference among its three elements). Patches from changing places cannot tell it, and a pair
of frames can.

Shapes: T frames, C channels, H height, W width, K figures.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqatool.inputs.clip import Clip

NUM_MOTION_FEATURES = 5


_EVERY = 2  # pixel along both axes is looked at, which is enough for means


_SQUARE = 4  # samples a side, and as many such squares: means lose noise and keep motion


_STILL = 0.1  # difference below which nothing moves, 8 bit samples


_EQUAL = 0.5


_LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709


_BUSY = 0.9  # share of the squares that move less than the busiest ones


def motion_vector(clip: Clip, *, generator: torch.Generator | None = None) -> Tensor:
    """(T, K) float32 of about unit spread for each burst; there is no chance in it.

    log2 of the mean difference of luma between squares of 1, 4 and 16 samples a side, and of the
    busier squares of 16; then the share of samples that stay equal, -1 to 1. All are 0 where a
    burst is one frame, as of a picture.
    """
    if clip.second_TCHW is None:
        return torch.zeros(len(clip.first_TCHW), NUM_MOTION_FEATURES)
    pairs = zip(clip.first_TCHW, clip.second_TCHW, strict=True)
    return torch.stack([_figures(_change(before, after)) for before, after in pairs])


def _figures(change_HW: Tensor) -> Tensor:
    small_HW = F.avg_pool2d(change_HW[None], _SQUARE, ceil_mode=True)
    large_HW = F.avg_pool2d(small_HW, _SQUARE, ceil_mode=True)
    moves = [changes.abs() for changes in (change_HW, small_HW, large_HW)]
    parts = [move.mean() for move in moves] + [moves[-1].flatten().quantile(_BUSY)]
    equal = (moves[0] < _EQUAL).float().mean()
    return torch.stack([*(torch.log2(part + _STILL) / 2 for part in parts), 2 * equal - 1])


def _change(before_CHW: Tensor, after_CHW: Tensor) -> Tensor:
    """Difference of luma, 8 bit samples."""
    # in the order that frames have in memory, and with numbers no wider than needed
    before_HWC, after_HWC = (
        picture_CHW.permute(1, 2, 0)[::_EVERY, ::_EVERY].to(torch.int16)
        for picture_CHW in (before_CHW, after_CHW)
    )
    return (after_HWC - before_HWC).float() @ torch.tensor(_LUMA)
