"""Figures of a model's input as people read them: with a name, a unit, and a value in that unit.

Models take logarithms and flags; an explanation of a score tells bits, steps and samples.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ReadableFigure(NamedTuple):
    """One figure of a view.

    Attributes:
        name: what it is.
        unit: of `read`; empty for a share.
        place: of it in the view.
        read: the view's value -> the value in the unit; a process can be given it.
        digits: those to be shown behind the point.
        flag: the place in the view of what is 1 where the figure is known; None: it always is.
    """

    name: str
    unit: str
    place: int
    read: Callable[[float], float]
    digits: int = 1
    flag: int | None = None

    def raw(self, view: npt.NDArray[np.floating]) -> float | None:
        """The value in a view (K,), or the mean over one of frames (T, K); None if not known."""
        figures_K = view.reshape(-1, view.shape[-1]).mean(axis=0)
        if self.flag is not None and not figures_K[self.flag]:
            return None
        return float(figures_K[self.place])
