"""Sets of rated pictures -> batches with equal shares of each set, several versions of a content.

Shapes: B pictures, C channels, H height, W width.
"""

from collections.abc import Generator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqatool.inputs.clip import Array, Clip, View, collate, is_pixels
from vqatool.prefetch import prefetch
from vqatool.pretraining.iqa_datasets import TRAIN
from vqatool.pretraining.picture_sets import PictureSet


class PictureBatch(NamedTuple):
    """Views (B, 1, 3, H, W) of B pictures, qualities 0 to 1, indices of their sets and contents."""

    views: tuple[Tensor, ...]
    quality_B: Tensor
    set_B: Tensor
    content_B: Tensor


class PictureBatches:
    """Batches from the train sides of several sets; each depends only on the seed and its step.

    Args:
        sets: at least one.
        views: of the recipe.
        count: pictures in a batch, in equal shares of the sets.
        versions: max pictures of one content in a batch.
        seed: of the random choice of pictures and views.
    """

    def __init__(
        self,
        sets: Sequence[PictureSet],
        views: Sequence[View],
        *,
        count: int,
        versions: int,
        seed: int,
    ) -> None:
        self._sets, self._recipe_views, self._seed = sets, views, seed
        self._share, self._versions = count // len(sets), versions
        self._by_content = [_by_content(pictures) for pictures in sets]

    def batches(self, steps: int) -> Generator[PictureBatch, None, None]:
        """The batches of all steps, loaded in the background; close it to end its thread."""
        return prefetch(self.batch, range(steps))

    def batch(self, step: int) -> PictureBatch:
        """The batch of that step, counted from 0."""
        rng = np.random.default_rng([self._seed, step])
        chosen = [
            (number, index)
            for number, groups in enumerate(self._by_content)
            for index in _sample(groups, self._share, self._versions, rng)
        ]
        contents = [(number, self._sets[number].contents[index]) for number, index in chosen]
        order = {content: index for index, content in enumerate(dict.fromkeys(contents))}
        seeds = rng.integers(2**62, size=len(order)).tolist()
        views = [
            self._views(self._sets[number].pixels(index), seeds[order[content]])
            for (number, index), content in zip(chosen, contents, strict=True)
        ]
        return PictureBatch(
            tuple(torch.from_numpy(collate(column)) for column in zip(*views, strict=True)),
            torch.tensor([self._sets[number].qualities[index] for number, index in chosen]),
            torch.tensor([number for number, _ in chosen]),
            torch.tensor([order[content] for content in contents]),
        )

    def _views(self, picture_CHW: Array, seed: int) -> list[Array]:
        """Views at the same places for all pictures of a content: only their distortion differs."""
        generator = np.random.default_rng(seed)
        is_mirrored = generator.random() < 0.5
        clip = Clip(picture_CHW[None])
        views = [view(clip, generator=generator) for view in self._recipe_views]
        return [view[..., ::-1] if is_mirrored and is_pixels(view) else view for view in views]


def _by_content(pictures: PictureSet) -> list[list[int]]:
    """Indices of the train side, grouped by content."""
    members = sorted(pictures.side(TRAIN), key=lambda index: pictures.contents[index])
    return [list(group) for _, group in groupby(members, lambda i: pictures.contents[i])]


def _sample(
    groups: Sequence[Sequence[int]], count: int, versions: int, rng: np.random.Generator
) -> list[int]:
    """`count` indices (fewer if the set is smaller), up to `versions` of one content."""
    chosen: list[int] = []
    for number in rng.permutation(len(groups)):
        num_versions = min(versions, count - len(chosen))
        chosen += rng.permutation(groups[number])[:num_versions].tolist()
        if len(chosen) == count:
            break
    return chosen
