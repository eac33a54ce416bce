"""The batches of a training, in their order, made in the background."""

import os
from collections.abc import Generator, Iterator
from typing import NamedTuple

from vqatool.data.cached_inputs import Batch, CachedInputs
from vqatool.data.groups import balanced_batches
from vqatool.training.prefetch import prefetch

_MOST_THREADS = 4  # each of them reads and cuts tens of megabytes


class BatchIndex(NamedTuple):
    """Which batch of the training: its epoch, its number in it, the encodes it holds."""

    epoch: int
    number: int
    indices: list[int]


class BatchLoader:
    """All batches of one process of a training; they depend on the seed alone.

    `process` is its number among `processes`, all of which get as many batches.
    """

    def __init__(
        self,
        clips: CachedInputs,
        *,
        sources: int,
        rungs: int,
        num_frame_groups: int,
        epochs: int,
        seed: int,
        process: int,
        processes: int,
    ) -> None:
        self._clips, self._num_frame_groups, self._seed = clips, num_frame_groups, seed
        self._sources, self._rungs = sources, rungs
        self._process, self._processes = process, processes
        self._epochs = [self._epoch(epoch) for epoch in range(epochs)]
        self.steps = sum(map(len, self._epochs))

    def left(self, epoch: int, number: int) -> Generator[tuple[BatchIndex, Batch], None, None]:
        """Batches from this number of this epoch on; close it to end its threads."""
        threads = max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // 2))
        return prefetch(self._made, self._places(epoch, number), threads=threads)

    def _places(self, first_epoch: int, first_number: int) -> Iterator[BatchIndex]:
        for epoch, batches in enumerate(self._epochs):
            for number, indices in enumerate(batches):
                if (epoch, number) >= (first_epoch, first_number):
                    yield BatchIndex(epoch, number, indices)

    def _epoch(self, epoch: int) -> list[list[int]]:
        batches = balanced_batches(
            self._clips.encodes,
            sources=self._sources,
            rungs=self._rungs,
            seed=self._seed * 100_003 + epoch,
        )
        # every process takes as many, for they wait for each other; too few are shared by all
        whole = len(batches) - len(batches) % self._processes
        return batches[self._process : whole : self._processes] or batches

    def _made(self, place: BatchIndex) -> tuple[BatchIndex, Batch]:
        seed = hash((self._seed, place.epoch, place.number))
        return place, self._clips.batch(
            place.indices, seed=seed, num_frame_groups=self._num_frame_groups
        )
