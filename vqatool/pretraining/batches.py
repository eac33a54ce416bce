"""Sets of rated pictures -> batches: as many of each set, several versions of one content.

Shapes: B pictures, C channels, H height, W width.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqatool.inputs.clip import Clip, View, collate, is_pixels
from vqatool.pretraining.iqa_datasets import TRAIN
from vqatool.pretraining.picture_sets import PictureSet


class PictureBatch(NamedTuple):
    """Views (B, 1, 3, H, W) of B pictures; qualities 0 to 1; numbers of their sets, contents."""

    views: tuple[Tensor, ...]
    quality_B: Tensor
    set_B: Tensor
    content_B: Tensor


class PictureBatches:
    """Batches of the train sides of several sets; each depends on the seed and its number alone."""

    def __init__(
        self,
        sets: Sequence[PictureSet],
        views: Sequence[View],
        *,
        count: int,
        versions: int,
        seed: int,
    ) -> None:
        self._sets, self._views_of_recipe, self._seed = sets, views, seed
        self._share, self._versions = count // len(sets), versions
        self._by_content = [_by_content(each) for each in sets]

    def ahead(self, steps: int) -> Iterator[PictureBatch]:
        """The batches of all steps; the next one is read while one is used."""
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.batch, 0)
            for step in range(1, steps + 1):
                batch = coming.result()
                if step < steps:
                    coming = reader.submit(self.batch, step)
                yield batch

    def batch(self, step: int) -> PictureBatch:
        """The batch of that number."""
        random = np.random.default_rng([self._seed, step])
        chosen = [
            (number, index)
            for number, groups in enumerate(self._by_content)
            for index in _drawn(groups, self._share, self._versions, random)
        ]
        contents = [(number, self._sets[number].contents[index]) for number, index in chosen]
        order = {content: place for place, content in enumerate(dict.fromkeys(contents))}
        seeds = random.integers(2**62, size=len(order)).tolist()
        made = [
            self._views(self._sets[number].pixels(index), seeds[order[content]])
            for (number, index), content in zip(chosen, contents, strict=True)
        ]
        return PictureBatch(
            tuple(collate(column) for column in zip(*made, strict=True)),
            torch.tensor([self._sets[number].qualities[index] for number, index in chosen]),
            torch.tensor([number for number, _ in chosen]),
            torch.tensor([order[content] for content in contents]),
        )

    def _views(self, picture_CHW: Tensor, seed: int) -> list[Tensor]:
        """The same places for all of one content, so that the damage alone differs."""
        generator = torch.Generator().manual_seed(seed)
        is_mirrored = bool(torch.rand((), generator=generator) < 0.5)
        clip = Clip(picture_CHW[None])
        made = [view(clip, generator=generator) for view in self._views_of_recipe]
        return [view.flip(-1) if is_mirrored and is_pixels(view) else view for view in made]


def _by_content(pictures: PictureSet) -> list[list[int]]:
    """Indices of the train side, those of one content together."""
    members = sorted(pictures.side(TRAIN), key=lambda index: pictures.contents[index])
    return [list(group) for _, group in groupby(members, lambda i: pictures.contents[i])]


def _drawn(
    groups: Sequence[Sequence[int]], count: int, versions: int, random: np.random.Generator
) -> list[int]:
    """`count` indices (fewer if there are fewer), up to `versions` of one content."""
    chosen: list[int] = []
    for number in random.permutation(len(groups)):
        wanted = min(versions, count - len(chosen))
        chosen += random.permutation(groups[number])[:wanted].tolist()
        if len(chosen) == count:
            break
    return chosen
