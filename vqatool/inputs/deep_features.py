"""Deep features: what the first stages of a network that knows compression see in the pixels.

A picture that was coded coarsely and then finely again has the headers of a good one; only its
pixels tell. A few hundred contents are too few to learn that from. The network is the ResNet-18
(arXiv 1512.03385, table 1) of FDIM 0.2.1, a full-reference metric that was trained on 16,000
compressed videos (Zhejiang University, MIT licence; `weights/FDIM-LICENSE.txt`): its stem and its
first two stages, as they are, without training. Further stages added nothing. Pooling by mean and
deviation as in many no-reference metrics; patches, and deviations between them, are ours.

Shapes: N patches, C channels, H height, W width, E features.
"""

import functools
from collections.abc import Mapping
from importlib import resources

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from vqatool.inputs.clip import Clip, as_float
from vqatool.inputs.fragments import fragments

CHANNELS = (64, 128)
"""Of each stage."""

BLOCKS = 2
"""Of each stage."""

NUM_DEEP_FEATURES = 4 * sum(CHANNELS)

WEIGHTS = "resnet18-fdim.safetensors"
"""In `vqatool.weights`: convolutions with their batch normalisation folded in, half precision."""

_GRID, _PATCH_PX = 2, 128
_MAX_ASPECT = 4


def deep_features(clip: Clip, *, generator: torch.Generator | None = None) -> Tensor:
    """Features (E,) of a clip, float32, E = NUM_DEEP_FEATURES.

    Of each channel of each stage: mean and deviation over the patches of its mean, then of its
    deviation, inside a patch. A patch of 128 px from each quarter of the first frame of each group.

    Args:
        clip: frames of any size, uint8; enlarged if the short side has less than 256 px. Of a thin
            frame, one side more than four times the other, only the middle is enlarged.
        generator: not used; a view has it.
    """
    mosaic_TCHW = fragments(_compact(clip), grid=_GRID, patch=_PATCH_PX)
    frames, channels = mosaic_TCHW.shape[:2]
    cells = mosaic_TCHW.reshape(frames, channels, _GRID, _PATCH_PX, _GRID, _PATCH_PX)
    patches_NCHW = as_float(cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2))
    with torch.no_grad():
        maps = stages(patches_NCHW.contiguous(memory_format=torch.channels_last), _weights())
        pooled = [
            pool
            for map_NCHW in maps
            for each_NC in (map_NCHW.mean((2, 3)), map_NCHW.std((2, 3)))
            for pool in (each_NC.mean(0), each_NC.std(0, unbiased=False))
        ]
        return torch.cat(pooled)


def _compact(clip: Clip) -> Clip:
    """The clip, or the middle of it where enlarging all of a thin frame would take gigabytes."""
    height, width = clip.pixels_TCHW.shape[2:]
    longest = _MAX_ASPECT * min(height, width)
    if min(height, width) >= _GRID * _PATCH_PX or max(height, width) <= longest:
        return clip
    high, wide = min(height, longest), min(width, longest)
    top, left = (height - high) // 2, (width - wide) // 2
    return clip._replace(pixels_TCHW=clip.pixels_TCHW[..., top : top + high, left : left + wide])


def stages(pixels_NCHW: Tensor, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """RGB in [0, 1] -> maps (N, 64, H / 4, W / 4) and (N, 128, H / 8, W / 8).

    Args:
        pixels_NCHW: sides are multiples of 8.
        weights: `NAME.weight` and `NAME.bias` of `stem`, and of `STAGE.BLOCK.first` and `.second`,
            and of `1.0.shortcut`.
    """

    def convolve(map_NCHW: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(map_NCHW, weight, weights[f"{name}.bias"], stride, padding)

    map_NCHW = F.max_pool2d(convolve(pixels_NCHW, "stem", 2).relu(), 3, 2, 1)
    maps = []
    for stage in range(len(CHANNELS)):
        for block in range(BLOCKS):
            name = f"{stage}.{block}"
            stride = 2 if stage and not block else 1
            shortcut = convolve(map_NCHW, f"{name}.shortcut", stride) if stride > 1 else map_NCHW
            inner_NCHW = convolve(map_NCHW, f"{name}.first", stride).relu()
            map_NCHW = (convolve(inner_NCHW, f"{name}.second") + shortcut).relu()
        maps.append(map_NCHW)
    return maps


@functools.cache
def _weights() -> Mapping[str, Tensor]:
    data = resources.files("vqatool").joinpath("weights", WEIGHTS).read_bytes()
    return {
        name: value.float().contiguous(memory_format=torch.channels_last)
        if value.ndim > 1
        else value.float()
        for name, value in load(data).items()
    }
