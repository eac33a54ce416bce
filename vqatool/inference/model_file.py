"""Model files: safetensors, which cannot run code, with a card in JSON inside.

The card holds everything that is needed to use the weights as they were trained: the method and the
model's shape, the number of frame groups in a clip, the label's name, and how accurate the model
was on sources outside the training data.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ladder.storage import atomic_write
from vqatool.errors import CheckpointError
from vqatool.inference.ood import OodDetector
from vqatool.methods import Method, recipe_for
from vqatool.methods.recipe import Recipe
from vqatool.models.quality import QualityModel

_FORMAT = "1"
_CARD_KEY = "vqatool"

UNTRAINED = "none: it has not learned any"
"""The label of a model that was pretrained on pictures or videos, but not on scores."""

LABEL_SCALE = "0 (worst) to 100 (best), mean of all frames, at the source's size"

_MAX_LINES = 3  # of torch's message about weights of another shape
_FORMER_SHAPE: Mapping[str, Mapping[str, Any]] = {
    "coarse-to-fine": {
        "has_probing": False,
        "has_spread": False,
        "figure_noise": 0.0,
        "has_tiles": False,
        "has_figure_score": False,
        "has_deep": False,
    },
}
"""By method: the arguments that a shape from before they existed does not have."""

_OOD_PREFIX = "domain."  # of the names of the out-of-distribution detector's tensors


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


@dataclass(frozen=True)
class Checkpoint:
    """Weights and their card; `ood` and `path` are None where they are unknown."""

    card: ModelCard
    weights: Mapping[str, Tensor]
    ood: OodDetector | None = None
    path: Path | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the card's method, in the card's shape."""
        return recipe_for(Method(self.card.method), self.card.shape)

    @cached_property
    def name(self) -> str:
        """Method and digest of the weights, such as `coarse-to-fine-1f3a9c2e`."""
        digest = hashlib.blake2b(digest_size=4)
        for key in sorted(self.weights):
            digest.update(key.encode())
            digest.update(self.weights[key].flatten().view(torch.uint8).numpy().tobytes())
        return f"{self.card.method}-{digest.hexdigest()}"

    @property
    def display_name(self) -> str:
        """The file, if the checkpoint was loaded from one, else the name."""
        return str(self.path or self.name)

    def model(self) -> QualityModel:
        """The model with these weights, in float32, ready to score.

        Raises:
            CheckpointError: the weights do not fit the shape in the card.
        """
        model = self.recipe.build()
        try:
            model.load_weights({key: value.float() for key, value in self.weights.items()})
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.display_name} was made by another version of vqatool, make it again: "
                f"{shape_mismatch(error)}"
            ) from error
        return model.eval()


def shape_mismatch(error: RuntimeError) -> str:
    """The first lines of torch's message about weights of another shape."""
    lines = "; ".join(line.strip() for line in str(error).splitlines()[:_MAX_LINES])
    return f"the weights do not fit the model's shape: {lines}"


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write weights (in half precision) and card; the file appears whole or not at all.

    Raises:
        CheckpointError: a weight is not finite, or too large for half precision.
        OutputError: the file cannot be written.
    """
    tensors = {key: value.half().contiguous() for key, value in checkpoint.weights.items()}
    for key, value in tensors.items():
        if not value.isfinite().all():
            _refuse_weights(path, key, checkpoint.weights[key])
    if checkpoint.ood:
        named = checkpoint.ood.tensors().items()
        tensors |= {_OOD_PREFIX + name: value.contiguous() for name, value in named}
    card = json.dumps(asdict(checkpoint.card), sort_keys=True)
    with atomic_write(path) as file:
        file.write(save(tensors, {_CARD_KEY: card}))


def _refuse_weights(path: Path, name: str, value: Tensor) -> NoReturn:
    largest = float(value.abs().max())
    if math.isfinite(largest):
        reason = f"values up to {largest:.4g}, and half precision ends at 65504"
    else:
        reason = "values that are not finite numbers"
    raise CheckpointError(
        f"{path} is not written: tensor {name} has {reason}. The training diverged: repeat it with "
        "a lower learning rate"
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """A model file that `save_checkpoint` wrote.

    Raises:
        CheckpointError: missing, broken, without a card, or with a card of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_CARD_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as a model file: {error}") from error
    if text is None:
        raise CheckpointError(f"{path} has no card of vqatool: make the file with `vqatool train`")
    try:
        checkpoint = _checkpoint(ModelCard(**json.loads(text)), tensors, path)
        if checkpoint.card.format != _FORMAT:
            raise ValueError(f"format {checkpoint.card.format!r}, this one reads {_FORMAT!r}")
        _ = checkpoint.recipe  # raises for an unknown method or shape
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} was made by another version of vqatool: {error}") from error
    return checkpoint


def _checkpoint(card: ModelCard, tensors: Mapping[str, Tensor], path: Path) -> Checkpoint:
    ood = {
        key.removeprefix(_OOD_PREFIX): value
        for key, value in tensors.items()
        if key.startswith(_OOD_PREFIX)
    }
    weights = {key: value for key, value in tensors.items() if not key.startswith(_OOD_PREFIX)}
    # a shape from before an argument existed is that of a model without it
    shape = {**_FORMER_SHAPE.get(card.method, {}), **card.shape} if card.shape else card.shape
    card = replace(card, shape=shape)
    return Checkpoint(card, weights, OodDetector.from_tensors(ood) if ood else None, path)


def default_checkpoint() -> Checkpoint:
    """The model inside the package."""
    with resources.as_file(resources.files("vqatool") / "weights" / "default.safetensors") as path:
        return load_checkpoint(path)
