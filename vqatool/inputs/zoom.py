"""Zoom-VQA's two views: crops of single frames (stills), and fragments of runs of frames.

"Zoom-VQA: Patches, Frames and Clips Integration for Video Quality Assessment" (arXiv 2304.06440).
As published: stills from the whole video, scaled to a short side of 512 px and cropped to 320 px;
runs of every second frame, scaled to a short side of 480 px, and 7 x 7 fragments of 48 px with the
same places in all frames of a run. Places are random in training and in the middle otherwise.
Different: each frame group of a clip is a run, and its first frame is a still, so that one decoding
serves both views; the paper uses two stills a second and four runs of 32 frames.

Shapes: T frames, C channels, H height, W width.
"""

from functools import partial

import numpy as np

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.fragments import fragments
from vqatool.inputs.resize import resized


def still_crops(
    clip: Clip,
    *,
    short_px: int = 512,
    crop_px: int = 320,
    antialias: bool = True,
    generator: np.random.Generator | None = None,
) -> Array:
    """A crop of the first frame of each frame group, from the middle or a random place.

    Args:
        clip: frames of any size.
        short_px: short side that the whole frame is scaled to first (bilinear).
        crop_px: side of the crop, at most `short_px`.
        antialias: whether scaling down is antialiased; libraries have different defaults.
        generator: for a random place in each still; None: the middle.

    Returns:
        (T, C, crop_px, crop_px), T the number of frame groups, dtype of the clip.
    """
    if crop_px > short_px:
        raise ValueError(f"a crop of {crop_px} px does not fit a short side of {short_px} px")
    scaled_TCHW = _scaled(clip.first_TCHW, short_px, antialias=antialias)
    return np.stack([_cropped(frame_CHW, crop_px, generator) for frame_CHW in scaled_TCHW])


def run_fragments(
    clip: Clip,
    *,
    short_px: int = 480,
    grid: int = 7,
    patch: int = 48,
    antialias: bool = True,
    generator: np.random.Generator | None = None,
) -> Array:
    """A mosaic of raw patches for each frame; the frames of a group have the same places.

    Args:
        clip: frames of any size.
        short_px: short side that the whole frame is scaled to first (bilinear).
        grid: cells a side.
        patch: side of a patch, px.
        antialias: whether scaling down is antialiased; libraries have different defaults.
        generator: for random places; None: the middle of each cell.

    Returns:
        (T, C, grid * patch, grid * patch), dtype of the clip.
    """
    mosaic = partial(fragments, grid=grid, patch=patch, is_aligned=True, generator=generator)
    starts = range(0, len(clip.pixels_TCHW), clip.group_size)
    runs = [clip.pixels_TCHW[start : start + clip.group_size] for start in starts]
    scaled = [_scaled(run, short_px, antialias=antialias) for run in runs]
    return np.concatenate([mosaic(Clip(run_TCHW)) for run_TCHW in scaled])


def _scaled(frames_TCHW: Array, short_px: int, *, antialias: bool) -> Array:
    height, width = frames_TCHW.shape[-2:]
    factor = short_px / min(height, width)
    size = (max(short_px, round(height * factor)), max(short_px, round(width * factor)))
    return resized(frames_TCHW, size, is_antialiased=antialias)


def _cropped(frame_CHW: Array, side: int, generator: np.random.Generator | None) -> Array:
    place = np.full(2, 0.5) if generator is None else generator.random(2)
    slack = np.array(frame_CHW.shape[1:]) - side
    top, left = (place * (slack + 1)).astype(int)
    return frame_CHW[:, top : top + side, left : left + side]
