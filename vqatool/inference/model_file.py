"""Model files of torch: safetensors, which cannot run code, with a card in JSON inside.

They can be trained further, and exported (`inference/export.py`).
"""

import hashlib
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ladder.storage import atomic_write
from vqatool.errors import CheckpointError
from vqatool.inference.card import CARD_KEY, ModelCard
from vqatool.inference.contents import CONTENTS_KEY, Contents
from vqatool.inference.fitted_clips import FittedClips
from vqatool.inference.ood import OodDetector
from vqatool.methods.recipe import Recipe
from vqatool.models.quality import QualityModel

_MAX_LINES, _MAX_LINE = 3, 150  # of torch's message about weights of another shape

_OOD_PREFIX = "domain."  # of the names of the out-of-distribution detector's tensors
_FITTED_PREFIX = "fitted."  # of the names of the tensors of `FittedClips`


@dataclass(frozen=True)
class Checkpoint:
    """Weights and their card; all others are None where they are unknown.

    `fitted` are the clips of the last fit of the figure network, and those of its start.
    """

    card: ModelCard
    weights: Mapping[str, Tensor]
    ood: OodDetector | None = None
    path: Path | None = None
    contents: Contents | None = None
    fitted: FittedClips | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the card's method, in the card's shape."""
        return self.card.recipe

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
    lines = "; ".join(
        textwrap.shorten(line, _MAX_LINE, placeholder=" ...")
        for line in str(error).splitlines()[:_MAX_LINES]
    )
    return f"the weights do not fit the model's shape: {lines}"


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write weights (in half precision) and card; the file appears whole or not at all.

    Raises:
        CheckpointError: a weight is not finite, or too large for half precision.
        OutputError: the file cannot be written.
    """
    tensors = {key: value.half().contiguous() for key, value in checkpoint.weights.items()}
    for key, value in tensors.items():
        require_finite(path, key, value, checkpoint.weights[key])
    if checkpoint.ood:
        named = checkpoint.ood.tensors().items()
        tensors |= {_OOD_PREFIX + name: value.contiguous() for name, value in named}
    if checkpoint.fitted:
        named = checkpoint.fitted.tensors().items()
        tensors |= {_FITTED_PREFIX + name: value.contiguous() for name, value in named}
    if checkpoint.contents:
        # no second text beside the card: those of the format have no fixed order
        text = bytearray(checkpoint.contents.text().encode())
        tensors[CONTENTS_KEY] = torch.frombuffer(text, dtype=torch.uint8)
    with atomic_write(path) as file:
        file.write(save(tensors, {CARD_KEY: checkpoint.card.text()}))


def require_finite(path: Path, name: str, written: Tensor, value: Tensor) -> None:
    """Raise CheckpointError if a tensor `value`, as it would be `written` to `path`, is broken."""
    if written.isfinite().all():
        return
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
            text = (file.metadata() or {}).get(CARD_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as a model file: {error}") from error
    if text is None:
        raise CheckpointError(f"{path} has no card of vqatool: make the file with `vqatool train`")
    try:
        return _checkpoint(ModelCard.parse(text), tensors, path)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} was made by another version of vqatool: {error}") from error


def _checkpoint(card: ModelCard, tensors: Mapping[str, Tensor], path: Path) -> Checkpoint:
    ood, fitted = _taken(tensors, _OOD_PREFIX), _taken(tensors, _FITTED_PREFIX)
    weights = {
        key: value
        for key, value in tensors.items()
        if not key.startswith((_OOD_PREFIX, _FITTED_PREFIX)) and key != CONTENTS_KEY
    }
    named = tensors.get(CONTENTS_KEY)
    return Checkpoint(
        card,
        weights,
        OodDetector.from_tensors(ood) if ood else None,
        path,
        Contents.parse(None if named is None else named.numpy().tobytes().decode()),
        FittedClips.from_tensors(fitted) if fitted else None,
    )


def _taken(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def default_checkpoint() -> Checkpoint:
    """The model inside the package."""
    with resources.as_file(resources.files("vqatool") / "weights" / "default.safetensors") as path:
        return load_checkpoint(path)
