"""Thumbnails: small pictures of chosen moments of videos, decoded in worker processes."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ladder.media.decode import display_size, each_frame_at
from ladder.media.probe import Size, VideoInfo, probe
from ladder.media.stills import jpeg, resize
from ladder.media.upright import Pixels
from vqatool.inputs.decode_pool import DecodeFailure, DecodePool

_BOX = Size(320, 180)  # px; turned for portrait
_JPEG_QUANTISER = 5
_TIMEOUT_S = 30.0  # for all moments of a video: a page must not wait long for its pictures


class ThumbnailTimes(NamedTuple):
    """The moments of a video that are to be shown, in seconds, in any order."""

    path: Path
    times_s: tuple[float, ...]


def read_thumbnails(
    videos: Sequence[ThumbnailTimes],
    *,
    jobs: int | None = None,
    box: Size = _BOX,
    tonemap: bool = False,
) -> Iterator[tuple[ThumbnailTimes, list[Pixels] | DecodeFailure]]:
    """For each video, in order, a picture of each moment, or the reason why there is none.

    A picture is (H, W, 3) uint8 RGB, upright, no larger than the video.

    Args:
        videos: each with its moments.
        jobs: worker processes; None: as `DecodePool` has them.
        box: the long and the short side that a picture fits into, px.
        tonemap: show HDR as SDR.
    """
    with DecodePool(jobs=jobs, timeout_s=_TIMEOUT_S) as pool:
        yield from pool.map(
            videos,
            lambda each: pool.submit(each.path, _decode_thumbnails, each.times_s, box, tonemap),
        )


def _decode_thumbnails(
    path: Path, times_s: tuple[float, ...], box: Size, tonemap: bool
) -> list[Pixels]:
    """The task of a worker."""
    info = probe(path, tonemap=tonemap)
    order = sorted(range(len(times_s)), key=times_s.__getitem__)
    frames = each_frame_at(info, [times_s[index] for index in order], _size(info, box))
    shown = {index: np.ascontiguousarray(frame) for index, frame in zip(order, frames, strict=True)}
    return [shown[index] for index in range(len(times_s))]


def _size(info: VideoInfo, box: Size) -> tuple[int, int]:
    """The size of a thumbnail: that of the video if it is smaller than the box."""
    return min(display_size(info, box), info.display_size)


class Image(NamedTuple):
    """A picture inside the page; sizes are in px."""

    uri: str
    width: int
    height: int


def embedded(picture_HWC: Pixels, scale: float = 1.0) -> Image:
    """The picture inside a page; `scale` of its sides, at most 1."""
    height, width = picture_HWC.shape[:2]
    if scale < 1:
        # the chroma of a JPEG has half the size
        width, height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
        picture_HWC = resize(picture_HWC, width, height)
    data = base64.b64encode(jpeg(picture_HWC, _JPEG_QUANTISER)).decode("ascii")
    return Image(f"data:image/jpeg;base64,{data}", width, height)
