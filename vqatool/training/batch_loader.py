"""The batches of a training, in a fixed order, loaded in background threads."""

from collections.abc import Generator, Iterator
from typing import NamedTuple

from ladder.media.ffmpeg import usable_cores
from vqatool.data.cached_inputs import Batch, CachedInputs
from vqatool.data.groups import balanced_batches
from vqatool.prefetch import prefetch

_MAX_THREADS = 4  # each of them reads and crops tens of megabytes


class BatchIndex(NamedTuple):
    """A batch of a training: its epoch, its number in the epoch, and the encodes it holds."""

    epoch: int
    number: int
    indices: list[int]


class BatchLoader:
    """All batches of one process of a training; they depend on the seed alone.

    Args:
        inputs: the encodes to learn from.
        sources: sources in a batch.
        rungs: encodes of each source in a batch.
        num_frame_groups: frame groups of each encode that a batch holds.
        epochs: how often every encode is used.
        seed: of the training.
        process: index of this process; every process gets the same number of batches.
        num_processes: processes that share the batches.
    """

    def __init__(
        self,
        inputs: CachedInputs,
        *,
        sources: int,
        rungs: int,
        num_frame_groups: int,
        epochs: int,
        seed: int,
        process: int,
        num_processes: int,
    ) -> None:
        self._inputs, self._num_frame_groups, self._seed = inputs, num_frame_groups, seed
        self._sources, self._rungs = sources, rungs
        self._process, self._num_processes = process, num_processes
        self._epochs = [self._batches_of_epoch(epoch) for epoch in range(epochs)]
        self.num_steps = sum(map(len, self._epochs))

    def batches_from(
        self, epoch: int, number: int
    ) -> Generator[tuple[BatchIndex, Batch], None, None]:
        """The batches from batch `number` of `epoch` on; close it to end its threads."""
        threads = max(1, min(_MAX_THREADS, usable_cores() // 2))
        return prefetch(self._load, self._indices_from(epoch, number), threads=threads)

    def _indices_from(self, first_epoch: int, first_number: int) -> Iterator[BatchIndex]:
        for epoch, batches in enumerate(self._epochs):
            for number, indices in enumerate(batches):
                if (epoch, number) >= (first_epoch, first_number):
                    yield BatchIndex(epoch, number, indices)

    def _batches_of_epoch(self, epoch: int) -> list[list[int]]:
        batches = balanced_batches(
            self._inputs.encodes,
            sources=self._sources,
            rungs=self._rungs,
            seed=self._seed * 100_003 + epoch,
        )
        # processes wait for each other in every step, so each takes the same number of batches;
        # if there are fewer batches than processes, every process takes all of them
        whole = len(batches) - len(batches) % self._num_processes
        return batches[self._process : whole : self._num_processes] or batches

    def _load(self, index: BatchIndex) -> tuple[BatchIndex, Batch]:
        # not negative: numpy takes no other seeds
        seed = hash((self._seed, index.epoch, index.number)) % 2**63
        return index, self._inputs.batch(
            index.indices, seed=seed, num_frame_groups=self._num_frame_groups
        )
