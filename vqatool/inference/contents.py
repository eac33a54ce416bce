"""The contents that a model was trained on, and which of them a video looks like. No torch.

Each content is a place in a small space, the mean of its encodes. The space is that of the linear
discriminants of "The Use of Multiple Measurements in Taxonomic Problems" (Fisher 1936) with the
contents as the classes: it keeps what tells contents apart and leaves out what differs between the
encodes of one content, which is their quality. `vqatool.training.contents` finds it.

Shapes: N contents, F figures of a clip, D dimensions of the space.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vqatool.errors import CheckpointError
from vqatool.inputs.clip import Array
from vqatool.methods.recipe import Input

Floats = npt.NDArray[np.float32]

CONTENTS_KEY = "vqatool.contents"
"""The name that a model file has `Contents.text` under: as metadata in a .onnx, as a tensor of
bytes in a .safetensors. Earlier files have none."""

_CODING = "bitstream"  # the input that says how a clip was coded, not what it shows
_FAR = 0.95  # of the contents have a neighbour that is nearer


class Neighbour(NamedTuple):
    """A training content, and how far a video is from it.

    A distance of 1 is the spread of the encodes of one content along one dimension.
    """

    name: str
    distance: float


@dataclass(frozen=True, eq=False)
class Contents:
    """The training contents of a model.

    Attributes:
        names: of the N sources.
        place_ND: of each, in half precision.
        projection_FD: figures of a clip -> its place, in half precision.
        own: the distance from its own content that 95 % of the training encodes stay below.
    """

    names: tuple[str, ...]
    place_ND: npt.NDArray[np.float16]
    projection_FD: npt.NDArray[np.float16]
    own: float

    def distances(self, figures_F: Floats) -> Floats:
        """Distances (N,) of a clip from the contents.

        Raises:
            CheckpointError: the contents are those of a model that takes other figures.
        """
        if len(figures_F) != len(self.projection_FD):
            raise CheckpointError(
                f"the contents in the model file are told by {len(self.projection_FD)} figures, "
                f"and its model takes {len(figures_F)}: train it again"
            )
        place_D = placed(figures_F, self.projection_FD)
        return _lengths(place_D - self.place_ND.astype(np.float32))

    def nearest(self, distance_N: Floats, count: int) -> list[Neighbour]:
        """The nearest contents, nearest first."""
        ranked = np.argsort(distance_N, kind="stable")[:count]
        return [Neighbour(self.names[index], float(distance_N[index])) for index in ranked]

    def share_of_farther(self, distance: float) -> float:
        """The share of the contents whose own nearest one is farther than `distance`, 0 to 1."""
        return float((self._apart_N > distance).mean())

    @property
    def far(self) -> float:
        """95 % of the contents have another one that is nearer than this."""
        return float(np.quantile(self._apart_N, _FAR))

    @cached_property
    def _apart_N(self) -> Floats:
        """How far each content is from the nearest other one."""
        places_ND = self.place_ND.astype(np.float32)
        apart = [np.sort(_lengths(place_D - places_ND))[1] for place_D in places_ND]
        return np.array(apart, np.float32)

    def text(self) -> str:
        """All of it as JSON, for a model file."""
        halves = {"places": self.place_ND, "projection": self.projection_FD}
        packed = {
            name: base64.b64encode(value.astype("<f2").tobytes()).decode()
            for name, value in halves.items()
        }
        facts = {"names": self.names, "dimensions": self.place_ND.shape[1], "own": self.own}
        return json.dumps({**facts, **packed})

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The contents of that `text`; None: there are none.

        Raises:
            TypeError, ValueError, KeyError: it is no text of `text`.
        """
        if text is None:
            return None
        facts = json.loads(text)
        names, dimensions = tuple(map(str, facts["names"])), int(facts["dimensions"])
        place_ND = _unpacked(facts["places"], dimensions)
        if len(place_ND) != len(names) or len(names) < 2:
            raise ValueError(f"{len(names)} contents have {len(place_ND)} places")
        projection_FD = _unpacked(facts["projection"], dimensions)
        return cls(names, place_ND, projection_FD, float(facts["own"]))


def content_figures(inputs: Sequence[Input], views: Sequence[Array]) -> Floats:
    """What of the views of a clip tells its content, (F,); empty for a model of pixels alone.

    All figures but those of the bitstream; of figures of frames, mean and deviation over them.

    Args:
        inputs: of the model.
        views: of a clip, in the same order, as the model takes them.
    """
    figures = []
    for each, view in zip(inputs, views, strict=True):
        if each.name == _CODING or view.ndim > 2:
            continue
        figures += [view] if view.ndim == 1 else [view.mean(0), view.std(0)]
    return np.concatenate(figures, dtype=np.float32) if figures else np.empty(0, np.float32)


def placed(figures: Floats, projection_FD: npt.NDArray[np.float16]) -> Floats:
    """Figures (..., F) -> places (..., D)."""
    places: Floats = figures @ projection_FD.astype(np.float32)
    return places


def _lengths(offset_ND: Floats) -> Floats:
    lengths_N: Floats = np.linalg.norm(offset_ND, axis=1)
    return lengths_N


def _unpacked(text: Any, dimensions: int) -> npt.NDArray[np.float16]:
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float16)
    if not np.isfinite(values).all():
        raise ValueError("the places of contents are not finite")
    return values.reshape(-1, dimensions)
