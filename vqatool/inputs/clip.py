"""Clips: the sampled frames of a video and its bitstream features, from which views are made.

The pixel convention relied on everywhere: RGB, uint8 in files, arrays and caches; float32 in [0, 1]
from `collate` onward; the model subtracts mean and deviation itself. Pixels are (T, C, H, W) at
display size; an image is a clip with T = 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM, BitstreamFeatures

Array = npt.NDArray[Any]


class FrameGroup(NamedTuple):
    """Consecutive frames sampled at one time: `num_frames` of them, every `stride`-th one."""

    num_frames: int = 1
    stride: int = 1


DEFAULT_FRAME_GROUPS = 8
"""Frame groups sampled from a clip by default."""


class Clip(NamedTuple):
    """Frames (T, 3, H, W) uint8 of a part of a video, and that part's bitstream features.

    The frames are frame groups of `group_size` frames, one group after another. A clip may be some
    of the groups of a longer one, from its group `first_group` on, which has `groups_in_all`.
    """

    pixels_TCHW: Array
    group_size: int = 1
    bitstream: BitstreamFeatures = UNKNOWN_BITSTREAM
    first_group: int = 0
    groups_in_all: int | None = None  # None: those that are here

    @property
    def first_TCHW(self) -> Array:
        """The first frame of each group."""
        return self.pixels_TCHW[:: self.group_size]

    def subsample_groups(self, num_frames: int, every: int = 1) -> "Clip":
        """The clip with `num_frames` frames of each group, every `every`-th of them."""
        groups = self.pixels_TCHW.reshape(-1, self.group_size, *self.pixels_TCHW.shape[1:])
        chosen = groups[:, : num_frames * every : every]
        pixels_TCHW = chosen.reshape(-1, *self.pixels_TCHW.shape[1:])
        return self._replace(pixels_TCHW=pixels_TCHW, group_size=num_frames)

    @property
    def second_TCHW(self) -> Array | None:
        """The second frame of each group; None where a group is one frame."""
        return self.pixels_TCHW[1 :: self.group_size] if self.group_size > 1 else None


class View(Protocol):
    """A clip -> one model input; deterministic if the generator is None.

    Pixels come out as uint8 (T, C, h, w), figures as float: of each frame (T, K), of all (F,).
    """

    def __call__(self, clip: Clip, *, generator: np.random.Generator | None) -> Array: ...


@dataclass(frozen=True)
class GroupedView:
    """A view that is made of one frame group after another, so that memory never holds a clip.

    Attributes:
        view: the part of the view that some of a clip's frame groups give.
        join: all parts, in order -> the view of the clip.
        finish: what the program does with the joined parts and no worker, since all workers would
            load what it needs; None: nothing.
        version: of what `finish` loads; another one gives another view.
        is_of_stream: whether it needs the bitstream features alone, and no pixels.
    """

    view: View
    join: Callable[[Sequence[Array]], Array] = np.concatenate
    finish: Callable[[Array], Array] | None = None
    version: Callable[[], str] | None = None
    is_of_stream: bool = False

    def __call__(self, clip: Clip, *, generator: np.random.Generator | None = None) -> Array:
        (view,) = finished([self], [self.join([self.view(clip, generator=generator)])])
        return view


def views_of_groups(views: Sequence[GroupedView], groups: Iterator[Clip]) -> list[Array]:
    """Every view of the clip that `groups` are, without augmentation and not finished."""
    # copies: the pixels of a group may be those of the next one in a moment
    parts = [[np.array(each.view(group, generator=None)) for each in views] for group in groups]
    return [each.join(column) for each, column in zip(views, zip(*parts, strict=True), strict=True)]


def finished(views: Sequence[View], joined: Sequence[Array]) -> list[Array]:
    """The inputs of a model from what the workers made of a clip, in the order of `views`."""
    return [
        view.finish(array) if isinstance(view, GroupedView) and view.finish else array
        for view, array in zip(views, joined, strict=True)
    ]


def is_pixels(view: Array) -> bool:
    """Whether a view of one clip is pixels (T, C, h, w), not figures (T, K) or (F,)."""
    return view.ndim == 4


def collate(views: Sequence[Array]) -> npt.NDArray[np.float32]:
    """The same view of several clips as one batch: pixels become float32 in [0, 1]."""
    batch = np.stack(list(views))
    if batch.dtype == np.uint8:
        return batch.astype(np.float32) / np.float32(255)
    return batch.astype(np.float32, copy=False)
