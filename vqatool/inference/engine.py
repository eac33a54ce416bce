"""What runs a model: the interface of the engines, and what they give. No torch.

Shapes: B clips, T frames of a clip, D features, H and W parts of a frame.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vqatool.inference.card import ModelCard
from vqatool.inference.contents import Contents
from vqatool.inputs.clip import Array

Floats = npt.NDArray[np.float32]

BRANCH_PREFIX = "branch."
"""Of the names of a branch's arrays: `branch.NAME.score` and so on."""


class Branch(NamedTuple):
    """What one branch of a model gives: `vqatool.models.quality.Branch` as arrays."""

    name: str
    score_B: Floats
    frame_score_BT: Floats
    score_map_BTHW: Floats
    weight_map_BTHW: Floats | None = None


class Output(NamedTuple):
    """What a model gives for B clips: its Quality, and how far they are from its training data.

    `distance_B` and `outlier_B` are compared with the `Limits` of the model file; None for a model
    without a detector, or without examples of outliers. The rest is as in
    `vqatool.models.quality.Quality`.
    """

    score_B: Floats
    features_BD: Floats
    frame_score_BT: Floats
    spread_B: Floats | None = None
    distance_B: Floats | None = None
    outlier_B: Floats | None = None
    branches: tuple[Branch, ...] = ()

    def clip(self, index: int) -> "Output":
        """What the model gives for one clip alone, without branches."""
        arrays = (None if each is None else each[index : index + 1] for each in self[:-1])
        return Output(*arrays)  # type: ignore[arg-type]  # the first three are arrays

    def branches_of(self, index: int) -> tuple[Branch, ...]:
        """The branches of one clip alone."""
        return tuple(
            Branch(
                branch.name,
                *(None if each is None else each[index : index + 1] for each in branch[1:]),  # type: ignore[arg-type]  # only the last may be None
            )
            for branch in self.branches
        )


class TypicalInput(NamedTuple):
    """What an input of figures is for a typical clip of the training data.

    Means and standard deviations (K,) of its figures over the clips; no deviations where they are
    not known. `swing_K` is the mean deviation over the frames of a clip; None for an input that has
    no frames.
    """

    mean_K: Floats
    deviation_K: Floats | None = None
    swing_K: Floats | None = None

    def like(self, view: Array) -> Floats:
        """The input of a typical clip, in the shape of this one, (K,) or (T, K)."""
        if view.ndim == 1 or self.swing_K is None:
            return np.broadcast_to(self.mean_K, view.shape)
        turns_T = (-1.0) ** np.arange(len(view))
        turns_T -= turns_T.mean()
        # over the frames the mean is exact, and so is the deviation where there are several
        unit_T1 = (turns_T / (turns_T.std() or 1.0))[:, None]
        return (self.mean_K + unit_T1 * self.swing_K).astype(np.float32)


class Limits(NamedTuple):
    """The largest `distance_B` and `outlier_B` of a clip like the training data."""

    distance: float
    outlier: float

    def contains(self, clips: Sequence[Output]) -> bool:
        """Whether the median clip, such as of the segments of a video, is inside."""
        distances = [each.distance_B for each in clips if each.distance_B is not None]
        outliers = [each.outlier_B for each in clips if each.outlier_B is not None]
        return _is_below(distances, self.distance) and _is_below(outliers, self.outlier)


def _is_below(values: Sequence[Floats], limit: float) -> bool:
    """Whether the median, the lower one of an even number, is at most the limit; NaN is not."""
    if not values:
        return True
    ordered_N = np.sort(np.concatenate(values))  # NaN comes last
    return bool(ordered_N[(len(ordered_N) - 1) // 2] <= limit) and not np.isnan(ordered_N[-1])


@dataclass(frozen=True)
class Loaded:
    """The description of a model that an engine runs.

    Attributes:
        card: of the model file.
        name: method and digest of the weights.
        limits: None for a model that cannot tell what is unlike its training data.
        contents: of the training; None for a model that does not know them.
    """

    card: ModelCard
    name: str
    limits: Limits | None
    contents: Contents | None = None


class Engine(Protocol):
    """A model that is ready to run, or will be once `load` was called."""

    @property
    def model(self) -> Loaded:
        """What runs."""
        ...

    @property
    def typical(self) -> Sequence[TypicalInput | None]:
        """Of each input, what it is for a typical clip; None for pixels, empty if not known."""
        ...

    @property
    def batch(self) -> int:
        """Clips that are best run at once."""
        ...

    @property
    def max_batch(self) -> int | None:
        """The most clips that can be run at once; None: any number."""
        ...

    @abstractmethod
    def load(self) -> None:
        """Do what takes a while before the first run.

        Raises:
            CheckpointError: the file is broken.
        """

    @abstractmethod
    def run(self, views: Sequence[Floats]) -> Mapping[str, Floats]:
        """The model's arrays for B clips, by name (`output_of`).

        Args:
            views: (B, ...) in the order of the recipe's inputs; pixels in [0, 1].
        """


FIELDS = ("score", "features", "frame_scores", "spread", "distance", "outlier")
"""The names of the arrays of an `Output`, in its order; the last three may be missing."""

BRANCH_FIELDS = ("score", "frame_scores", "score_map", "weight_map")
"""The names of the arrays of a `Branch`, in its order; the last may be missing."""


def output_of(named: Mapping[str, Array]) -> Output:
    """The output whose arrays these are.

    Raises:
        KeyError: one is missing.
    """
    paths = [name.removeprefix(BRANCH_PREFIX) for name in named if name.startswith(BRANCH_PREFIX)]
    branches = tuple(
        Branch(
            name,
            named[f"{BRANCH_PREFIX}{name}.score"],
            named[f"{BRANCH_PREFIX}{name}.frame_scores"],
            named[f"{BRANCH_PREFIX}{name}.score_map"],
            named.get(f"{BRANCH_PREFIX}{name}.weight_map"),
        )
        for name in dict.fromkeys(path.rpartition(".")[0] for path in paths)
    )
    return Output(
        score_B=named["score"],
        features_BD=named["features"],
        frame_score_BT=named["frame_scores"],
        spread_B=named.get("spread"),
        distance_B=named.get("distance"),
        outlier_B=named.get("outlier"),
        branches=branches,
    )
