"""Deep features: what the first stages of a network that knows compression see in the pixels.

A picture that was coded coarsely and then finely again has the headers of a good one; only its
pixels tell. A few hundred contents are too few to learn that from. The network is the ResNet-18
(arXiv 1512.03385, table 1) of FDIM 0.2.1, a full-reference metric that was trained on 16,000
compressed videos (Zhejiang University, MIT licence; `weights/FDIM-LICENSE.txt`): its stem and its
first two stages, which `vqatool.pretraining.patches` trained on. It sees luma, as VMAF does.
Pooling by mean and deviation as in many no-reference metrics; patches, and deviations between them,
are ours.

Shapes: N patches, C channels, E features.
"""

import functools
import hashlib
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.fragments import fragments
from vqatool.onnx_session import open_session

CHANNELS = (64, 128)
"""Of each stage."""

NUM_DEEP_FEATURES = 4 * sum(CHANNELS)

NETWORK = "resnet18-patches.onnx"
"""In `vqatool.weights`, made by `vqatool.pretraining.patches`: uint8 luma (N, 1, 128, 128) -> mean
and deviation of each channel of the first stage, then of the second, (N, 2 * 64 + 2 * 128)."""

PATCH_PX = 128

_GRID = 2
_LUMA = np.array((0.2126, 0.7152, 0.0722), np.float32)  # ITU-R BT.709
_MAX_ASPECT = 4
_AT_ONCE = 2  # patches, whose maps fit the processor's cache


def deep_features(
    clip: Clip, *, generator: np.random.Generator | None = None
) -> npt.NDArray[np.float32]:
    """Features (E,) of a clip, E = NUM_DEEP_FEATURES.

    Of each channel of each stage: mean and deviation over the patches of its mean, then of its
    deviation, inside a patch. A patch of 128 px from each quarter of the first frame of each group.

    Args:
        clip: frames of any size, uint8; enlarged if the short side has less than 256 px. Of a thin
            frame, one side more than four times the other, only the middle is enlarged.
        generator: not used; a view has it.
    """
    return features_of_patches(patches(clip, generator=generator))


def patches(clip: Clip, *, generator: np.random.Generator | None = None) -> Array:
    """The luma of the N patches that the network sees, (N, 1, PATCH_PX, PATCH_PX) uint8.

    A fourth channel of the clip's pixels stays as a second one.
    """
    mosaic_TCHW = fragments(_compact(clip), grid=_GRID, patch=PATCH_PX)
    frames, channels = mosaic_TCHW.shape[:2]
    cells = mosaic_TCHW.reshape(frames, channels, _GRID, PATCH_PX, _GRID, PATCH_PX)
    patches_NCHW = cells.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels, PATCH_PX, PATCH_PX)
    luma_NHW = np.tensordot(patches_NCHW[:, :3], _LUMA, axes=(1, 0)).round().astype(np.uint8)
    return np.concatenate([luma_NHW[:, None], patches_NCHW[:, 3:]], axis=1)


def features_of_patches(patches_N1HW: Array) -> npt.NDArray[np.float32]:
    """Deep features (E,) of a clip from its `patches`."""
    session = _session()
    parts = [
        session.run(None, {"patches": patches_N1HW[start : start + _AT_ONCE]})[0]
        for start in range(0, len(patches_N1HW), _AT_ONCE)
    ]
    figures_NC = np.concatenate(parts)
    ends = np.cumsum([count for count in CHANNELS for _ in range(2)])[:-1]
    pooled = [
        pool
        for each_NC in np.split(figures_NC, ends, axis=1)
        for pool in (each_NC.mean(0), each_NC.std(0))
    ]
    return np.concatenate(pooled).astype(np.float32)


def _compact(clip: Clip) -> Clip:
    """The clip, or the middle of it where enlarging all of a thin frame would take gigabytes."""
    height, width = clip.pixels_TCHW.shape[2:]
    longest = _MAX_ASPECT * min(height, width)
    if min(height, width) >= _GRID * PATCH_PX or max(height, width) <= longest:
        return clip
    high, wide = min(height, longest), min(width, longest)
    top, left = (height - high) // 2, (width - wide) // 2
    return clip._replace(pixels_TCHW=clip.pixels_TCHW[..., top : top + high, left : left + wide])


@functools.cache
def network_digest() -> str:
    """Tells one network from another."""
    return hashlib.sha256(_network_file()).hexdigest()[:8]


def _network_file() -> bytes:
    return resources.files("vqatool").joinpath("weights", NETWORK).read_bytes()


@functools.cache
def _session() -> Any:
    return open_session(_network_file())
