"""Which contents of its training a model finds nearest to a video, and how near they are, in words.

Shapes: S segments, N contents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vqatool.inference.contents import Contents, Floats, Neighbour

NUM_NEAREST = 3
"""Contents that are named."""

NOT_KNOWN = (
    "its nearest training contents are not known: the model file holds none, because it is older "
    "or its model takes frames alone"
)
"""What is said of a model file without contents."""


class NearnessLine(NamedTuple):
    """A line of the table of nearest contents, as texts."""

    name: str
    distance: str
    words: str
    is_far: bool


@dataclass(frozen=True)
class NearestContents:
    """The nearest training contents of a video.

    Attributes:
        contents: of the training.
        nearest: by the distance of the median segment.
        far_segments: how many segments are far from all contents.
    """

    contents: Contents
    nearest: tuple[Neighbour, ...]
    far_segments: int

    @classmethod
    def of(cls, contents: Contents, distances: Sequence[Floats]) -> "NearestContents":
        """Those of a video of S segments, from the distances (N,) of each."""
        distance_SN = np.stack(distances)
        nearest = contents.nearest(np.median(distance_SN, axis=0), NUM_NEAREST)
        return cls(contents, tuple(nearest), int((distance_SN.min(1) > contents.far).sum()))

    @property
    def is_far(self) -> bool:
        """Whether even the nearest is farther than 95 % of the contents are from theirs."""
        return self.nearest[0].distance > self.contents.far

    def sentence(self) -> str:
        """The nearest contents, and how near the first one is, without a point."""
        first, *others = (f"{each.name} ({each.distance:.1f})" for each in self.nearest)
        named = " and ".join(filter(None, [", ".join([first, *others[:-1]]), *others[-1:]]))
        told = f"its nearest of {len(self.contents.names)} training contents: {named}"
        words = self._words(self.nearest[0])
        if self.is_far:
            return f"{told}; even the first is {words}: the model has seen little like it"
        return f"{told}; the first is {words}"

    def lines(self) -> list[NearnessLine]:
        """Lines of a table, nearest first."""
        return [
            NearnessLine(
                each.name,
                f"{each.distance:.1f}",
                self._words(each),
                each.distance > self.contents.far,
            )
            for each in self.nearest
        ]

    def _words(self, each: Neighbour) -> str:
        if each.distance <= self.contents.own:
            return "as near as encodes of one content are to each other"
        if each.distance > self.contents.far:
            return "farther than 95 % of these contents are from their own nearest"
        share = 100 * self.contents.share_of_farther(each.distance)
        return f"nearer than {share:.0f} % of these contents are to their own nearest"
