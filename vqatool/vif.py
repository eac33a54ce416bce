"""Visual information fidelity (VIF) of pictures: a full-reference quality for each tile.

Pixel-domain multi-scale VIF: "Image Information and Visual Quality" (Sheikh and Bovik, IEEE TIP
2006), with the four scales that VMAF uses. VIF is the share of the information that an eye could
get from the reference which the distorted picture still holds. This module keeps it as maps instead
of two sums, so that each tile of a picture has a label.

VMAF also measures detail loss and motion, and takes far longer. `tile_quality` maps VIF to VMAF's
scale.
The constants are a least-squares fit of VMAF v0.6.1 on 104,556 frames of 1188 encodes of 99 sources
(540p; x264, x265, VP9, SVT-AV1; CRF and bitrate rungs) with the VIF values in libvmaf's log:
`scipy.optimize.least_squares(lambda t: (vif @ softmax(t[:4])) ** exp(t[4]) - vmaf / 100, 0)`. On
sources held out of the fit (5 folds): PLCC 0.939, SRCC 0.937, RMSE 8.6 VMAF points. The finest and
the coarsest scale got weight 0, so they are not computed.

Shapes: H height, W width, S scale. Luma is 0 to 255.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SCALES = 4


_TAPS = (17, 9, 5, 3)  # of the Gaussian window, by scale; its deviation is a fifth of that


_NOISE = 2.0  # variance of the eye's own noise


_GAIN_LIMIT = 100.0  # as in VMAF v0.6.1: contrast enhancement may raise VIF


_EPS = 1e-10


_WEIGHTS = (0.0, 0.641, 0.359, 0.0)


_EXPONENT = 1.716


_MIN_PX = 16


_CHANNEL_TILE_PX = 16
_CHANNEL_STEPS = 254  # of a quality in eight bits; 0 is unknown


def luma(pixels_CHW: Tensor) -> Tensor:
    """(..., 3, H, W) RGB, 0 to 255 -> (..., H, W) luma in the limited range of video, 16 to 235."""
    red, green, blue = pixels_CHW.float().unbind(-3)
    return 16 + (219 / 255) * (0.2126 * red + 0.7152 * green + 0.0722 * blue)  # ITU-R BT.709


def vif(reference_HW: Tensor, distorted_HW: Tensor) -> list[Tensor]:
    """VIF of the whole picture at each of the four scales, as libvmaf's `vif_scale0` to 3.

    1 for identical pictures, near 0 if most information is lost, above 1 for enhanced contrast.

    Args:
        reference_HW: luma, any dtype; sides of at least 16 px; leading dimensions are a batch.
        distorted_HW: luma of the same shape.

    Raises:
        ValueError: shapes differ or are too small.
    """
    maps = _scales(reference_HW, distorted_HW, range(SCALES))
    return [kept.sum((-2, -1)) / total.sum((-2, -1)) for kept, total in maps]


def tile_quality(reference_HW: Tensor, distorted_HW: Tensor, tile_px: int) -> Tensor:
    """Quality of each tile on VMAF's scale divided by 100, from VIF.

    Args:
        reference_HW: luma, 0 to 255, any dtype; leading dimensions are a batch.
        distorted_HW: luma of the same shape.
        tile_px: side of a tile, a multiple of 8. Tiles start at the upper left; the rest at
            the right and at the bottom belongs to no tile.

    Returns:
        (..., H // tile_px, W // tile_px), 0 (worst) to 1 (identical).

    Raises:
        ValueError: shapes differ, or no tile fits.
    """
    height, width = reference_HW.shape[-2:]
    if tile_px % 8 or not 0 < tile_px <= min(height, width):
        raise ValueError(f"tile_px must be a multiple of 8 within {width}x{height}, got {tile_px}")
    used = [scale for scale in range(SCALES) if _WEIGHTS[scale]]
    tile_vif = torch.zeros(())
    for scale, (kept, total) in zip(used, _scales(reference_HW, distorted_HW, used), strict=True):
        side = tile_px >> scale
        share = _tile_mean(kept, side) / _tile_mean(total, side)
        tile_vif = tile_vif + _WEIGHTS[scale] * share.clamp(0, 1)
    rows, columns = height // tile_px, width // tile_px
    quality = tile_vif[..., :rows, :columns] ** _EXPONENT
    return quality.view(*reference_HW.shape[:-2], rows, columns)


def quality_channel(reference_THW: Tensor, distorted_THW: Tensor) -> Tensor:
    """`tile_quality` of tiles of 16 px at every pixel, to travel with the pixels as a channel.

    Args:
        reference_THW: luma, 0 to 255, any dtype.
        distorted_THW: luma of the same shape.

    Returns:
        (T, H, W) uint8: 1 (worst) to 255 (identical); 0 stands for unknown.
    """
    height, width = distorted_THW.shape[-2:]
    tiles = tile_quality(reference_THW, distorted_THW, _CHANNEL_TILE_PX)[:, None]
    channel = (1 + (_CHANNEL_STEPS * tiles.clamp(0, 1)).round()).repeat_interleave(
        _CHANNEL_TILE_PX, -1
    )
    channel = channel.repeat_interleave(_CHANNEL_TILE_PX, -2)
    rest = (0, width - channel.shape[-1], 0, height - channel.shape[-2])
    return F.pad(channel, rest, mode="replicate")[:, 0].to(torch.uint8)


def patch_quality(channel_NHW: Tensor, grid: int) -> Tensor:
    """Mean quality (N, grid * grid), 0 to 1, of the cells of a `quality_channel` over 255.

    NaN for a cell with an unknown pixel.
    """
    channel_N1HW = channel_NHW[:, None]
    is_unknown = F.adaptive_max_pool2d((channel_N1HW == 0).float(), grid) > 0
    quality = (255 * F.adaptive_avg_pool2d(channel_N1HW, grid) - 1) / _CHANNEL_STEPS
    return quality.masked_fill(is_unknown, torch.nan).flatten(1)


def _scales(
    reference_HW: Tensor, distorted_HW: Tensor, scales: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Maps of kept and of total information for each of `scales`, finest first.

    VIF of a region is the sum of kept over the sum of total information in it.
    """
    shape = reference_HW.shape
    if shape != distorted_HW.shape or min(shape[-2:]) < _MIN_PX:
        raise ValueError(
            f"two pictures of one size, at least {_MIN_PX} px, are needed, not "
            f"{tuple(shape)} and {tuple(distorted_HW.shape)}"
        )
    # float32 variances are more precise for values around zero
    pair = torch.stack([reference_HW, distorted_HW]).float().reshape(2, -1, *shape[-2:]) - 128
    for scale in range(max(scales) + 1):
        if scale:
            height, width = pair.shape[-2:]
            halved = _blur(pair, _TAPS[scale], stride=2)
            pair = halved[..., : height // 2, : width // 2]
        if scale in scales:
            kept, total = _information(*pair, taps=_TAPS[scale])
            size = kept.shape[-2:]
            yield kept.view(*shape[:-2], *size), total.view(*shape[:-2], *size)


def _information(reference: Tensor, distorted: Tensor, *, taps: int) -> tuple[Tensor, Tensor]:
    """Luma of both, (N, H, W) -> bits kept and bits in total at every pixel."""
    products = [reference.square(), distorted.square(), reference * distorted]
    mean, mean_of_distorted, *moments = _blur(torch.stack([reference, distorted, *products]), taps)
    variance = (moments[0] - mean.square()).clamp_min(0)
    distorted_variance = (moments[1] - mean_of_distorted.square()).clamp_min(0)
    covariance = moments[2] - mean * mean_of_distorted
    # distorted = gain * reference + noise of this variance, locally
    gain = (covariance / (variance + _EPS)).clamp_min(0)
    noise = (distorted_variance - gain * covariance).clamp_min(_EPS)
    gain = gain.clamp_max(_GAIN_LIMIT)
    kept = torch.log2(1 + gain.square() * variance / (noise + _NOISE))
    total = torch.log2(1 + variance / _NOISE)
    # a flat reference has no information to keep: only what the distortion added counts
    is_flat = variance < _NOISE
    added = 1 - distorted_variance * (_NOISE / 255) ** 2
    return torch.where(is_flat, added, kept), torch.where(is_flat, 1.0, total)


def _blur(images_KNHW: Tensor, taps: int, *, stride: int = 1) -> Tensor:
    """Blur (K, N, H, W) by a Gaussian, mirrored at the borders, and keep each `stride`-th pixel."""
    offsets = torch.arange(taps, device=images_KNHW.device) - taps // 2
    window = torch.exp(-0.5 * (offsets / (taps / 5)) ** 2)
    window = window / window.sum()
    batch, count = images_KNHW.shape[:2]
    images = F.pad(images_KNHW.flatten(0, 1), [taps // 2] * 4, mode="reflect")[None]
    groups = batch * count
    down = window.view(1, 1, taps, 1).expand(groups, 1, taps, 1)
    across = window.view(1, 1, 1, taps).expand(groups, 1, 1, taps)
    images = F.conv2d(images, down, stride=(stride, 1), groups=groups)
    images = F.conv2d(images, across, stride=(1, stride), groups=groups)
    return images.view(batch, count, *images.shape[-2:])


def _tile_mean(map_HW: Tensor, side: int) -> Tensor:
    flat = map_HW.reshape(-1, 1, *map_HW.shape[-2:])
    pooled = F.avg_pool2d(flat, side)
    return pooled.view(*map_HW.shape[:-2], *pooled.shape[-2:])
