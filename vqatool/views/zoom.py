"""The two views of Zoom-VQA: crops of single frames, and fragments of runs of frames.

"Zoom-VQA: Patches, Frames and Clips Integration for Video Quality Assessment" (arXiv 2304.06440).
As published: two frames a second, their short side scaled to 512 px, and a crop of 320 px; runs of
32 frames, every second one, their short side scaled to 480 px, and 7 x 7 fragments of 48 px whose
places are the same in a whole run. Crops and fragments come from places drawn by chance in
training, and from the middle otherwise. Different: stills are the middles of equal parts, where
the paper has a converter of frame rates choose them.

Both views are of one clip, so a video is decoded once. Its frames are stills, any number of them,
and then `runs` * `run_frames` more; `zoom_times` says when. A clip that has no more frames than the
runs need, such as a picture, has no stills: the first frame of each run stands for them.

Shapes: T frames, C channels, H height, W width.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vqatool.clips import Clip
from vqatool.views.fragments import fragments


def still_count(length_s: float, *, per_second: float = 2.0) -> int:
    """How many stills a part of a video of that length has: at least one."""
    return max(1, round(length_s * per_second))


def zoom_times(
    start_s: float,
    length_s: float,
    frame_s: float,
    *,
    stills: int,
    runs: int,
    run_frames: int,
    interval: int = 2,
) -> list[float]:
    """When the frames of a clip are on the screen: those of the stills, then those of the runs.

        |..f...f...f...f...f...f...f...f.|   8 stills: the middles of equal parts
        |..ffff......|.....ffff......|..     runs: in the middle of equal parts

    Args:
        start_s: where the part of the video begins.
        length_s: how long it is.
        frame_s: how long a frame is on the screen.
        stills: how many; `still_count` says how many the paper has.
        runs: how many; a run too long for its part goes on beyond it.
        run_frames: frames of a run.
        interval: every how many-th frame a run takes; the last one stands for those past the end.

    Returns:
        Seconds, ascending among the stills and, where runs fit, among the frames of the runs.
    """
    last = max(1, round(length_s / frame_s)) - 1
    taken = [
        min(first + interval * step, last)
        for first in _run_starts(last + 1, runs, run_frames * interval)
        for step in range(run_frames)
    ]
    middles_s = [length_s * (index + 0.5) / stills for index in range(stills)]
    return [start_s + time_s for time_s in (*middles_s, *(frame_s * (n + 0.5) for n in taken))]


def still_crops(
    clip: Clip,
    *,
    runs: int,
    run_frames: int,
    short_px: int = 512,
    crop_px: int = 320,
    antialias: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A crop of each still, of its middle or from places of chance.

    Args:
        clip: stills and runs.
        runs: how many runs follow the stills.
        run_frames: frames of a run.
        short_px: what the short side of the whole frame is scaled to first (bilinear).
        crop_px: side of the crop, at most `short_px`.
        antialias: whether scaling down filters first; said here because libraries disagree.
        generator: where places come from, each still's own; None takes the middle.

    Returns:
        (T, C, crop_px, crop_px), T the number of stills, dtype and device of the clip.
    """
    if crop_px > short_px:
        raise ValueError(f"a crop of {crop_px} px does not fit a short side of {short_px} px")
    frames_TCHW = clip.pixels_TCHW
    stills = len(frames_TCHW) - runs * run_frames
    chosen_TCHW = frames_TCHW[:stills] if stills > 0 else frames_TCHW[::run_frames]
    scaled_TCHW = _scaled(chosen_TCHW, short_px, antialias=antialias)
    return torch.stack([_cropped(frame_CHW, crop_px, generator) for frame_CHW in scaled_TCHW])


def run_fragments(
    clip: Clip,
    *,
    runs: int,
    run_frames: int,
    short_px: int = 480,
    grid: int = 7,
    patch: int = 48,
    antialias: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mosaics of raw patches, one for each frame of the runs; a run keeps its places.

    Args:
        clip: stills and runs; a last run that is short is filled up with its last frame.
        runs: how many runs follow the stills.
        run_frames: frames of a run.
        short_px: what the short side of the whole frame is scaled to first (bilinear).
        grid: cells a side.
        patch: side of a patch, px.
        antialias: whether scaling down filters first; said here because libraries disagree.
        generator: where places come from; None takes the middle of each cell.

    Returns:
        (T, C, grid * patch, grid * patch), T a multiple of `run_frames`, dtype and device of the
        clip.
    """
    frames_TCHW = clip.pixels_TCHW[-runs * run_frames :]
    mosaics: list[Tensor] = []
    for run_TCHW in torch.split(frames_TCHW, run_frames):
        scaled = Clip(_scaled(run_TCHW, short_px, antialias=antialias))
        mosaics.append(
            fragments(scaled, grid=grid, patch=patch, is_aligned=True, generator=generator)
        )
    missing = -len(frames_TCHW) % run_frames
    return torch.cat([*mosaics, mosaics[-1][-1:].expand(missing, -1, -1, -1)])


def mirrored(pixels_TCHW: Tensor, *, generator: torch.Generator) -> Tensor:
    """All frames mirrored left to right, or none, by chance: as it is done in training."""
    is_mirrored = bool(torch.randint(2, (), generator=generator))
    return pixels_TCHW.flip(-1) if is_mirrored else pixels_TCHW


def _run_starts(frames: int, runs: int, span: int) -> Iterator[int]:
    """First frame of each run, the run in the middle of its part."""
    part = frames // runs
    return (run * part + max(0, part - span) // 2 for run in range(runs))


def _scaled(frames_TCHW: Tensor, short_px: int, *, antialias: bool) -> Tensor:
    height, width = frames_TCHW.shape[-2:]
    factor = short_px / min(height, width)
    size = (max(short_px, round(height * factor)), max(short_px, round(width * factor)))
    # uint8 as it is: by way of floats it takes seven times as long
    return F.interpolate(
        frames_TCHW, size, mode="bilinear", align_corners=False, antialias=antialias
    )


def _cropped(frame_CHW: Tensor, side: int, generator: torch.Generator | None) -> Tensor:
    place = torch.full((2,), 0.5) if generator is None else torch.rand(2, generator=generator)
    slack = torch.tensor(frame_CHW.shape[1:]) - side
    top, left = (place * (slack + 1)).long().tolist()
    return frame_CHW[:, top : top + side, left : left + side]
