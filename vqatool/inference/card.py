"""The card of a model file: everything that is needed to use the weights as they were trained.

The method and the model's shape, the number of frame groups in a clip, the label's name, and how
accurate the model was on sources outside the training data. No torch.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from vqatool.methods import Method, recipe_for
from vqatool.methods.recipe import Recipe

_FORMAT = "1"
CARD_KEY = "vqatool"
"""The name that a model file's metadata has the card under."""

_VIEW_VERSIONS = "view_versions"

UNTRAINED = "none: it has not learned any"
"""The label of a model that was pretrained on pictures or videos, but not on scores."""

LABEL_SCALE = "0 (worst) to 100 (best), mean of all frames, at the source's size"

_FORMER_SHAPE: Mapping[str, Mapping[str, Any]] = {
    "coarse-to-fine": {
        "has_probing": False,
        "has_spread": False,
        "figure_noise": 0.0,
        "has_tiles": False,
        "has_figure_score": False,
        "has_deep": False,
        "has_octaves": False,
        "has_swing": True,
    },
}
"""By method: the arguments that a shape from before they existed does not have."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The description of the weights in a model file, as JSON.

    `band` is half the width of the interval that held 90 % of the errors on held-out sources, in
    label points; `band_per_spread` is the same in units of the spread that the model gives for each
    video, 0 for a model that gives none. `fingerprint` identifies the data and settings of a
    finished training.
    """

    method: str
    shape: Mapping[str, Any]
    clip_frames: int
    label: str  # the VMAF model whose mean the score predicts
    label_scale: str = ""
    preprocessing: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)  # of each side of the split
    validation: Mapping[str, float] = field(default_factory=dict)
    band: float = 0.0
    band_per_spread: float = 0.0
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""  # of the weights
    fingerprint: str = ""
    format: str = _FORMAT

    @property
    def recipe(self) -> Recipe:
        """The recipe of the card's method, in the card's shape."""
        return recipe_for(Method(self.method), self.shape)

    def text(self) -> str:
        """The card as JSON, with the versions of networks that its views need."""
        versions: list[str] = []
        # what is no method's card is refused when it is read
        with contextlib.suppress(TypeError, ValueError):
            versions = self.recipe.view_versions
        return json.dumps(asdict(self) | {_VIEW_VERSIONS: versions}, sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The card of that `text`.

        Raises:
            TypeError, ValueError, KeyError: it was written by another version, or is no card.
        """
        written = dict(json.loads(text))
        versions = written.pop(_VIEW_VERSIONS, [])
        card = cls(**written)
        if card.format != _FORMAT:
            raise ValueError(f"format {card.format!r}, this one reads {_FORMAT!r}")
        if card.shape:
            # a shape from before an argument existed is that of a model without it
            card = replace(card, shape={**_FORMER_SHAPE.get(card.method, {}), **card.shape})
        needed = card.recipe.view_versions  # raises for an unknown method or shape
        if needed and needed != versions:
            raise ValueError("it learned from deep features of another network")
        return card
