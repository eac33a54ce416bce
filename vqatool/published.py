"""Published weights of other projects -> model files of ours, to start from or to learn from."""

from dataclasses import asdict
from pathlib import Path

from vqatool.checkpoint import Card, Checkpoint
from vqatool.methods import Method
from vqatool.models.internvideo_weights import read_internvideo
from vqatool.recipes import recipe_for

UNTAUGHT = "none: it has not learned any"
"""The label of a model that knows videos, but no scores yet."""


def internvideo_checkpoint(path: Path, *, licence: str = "") -> Checkpoint:
    """InternVideo2's video transformer in its published size, with a head that says nothing yet.

    Args:
        path: file of the project (arXiv 2403.15377): .pth, .bin, .pt or .safetensors.
        licence: of the weights, for the card.

    Raises:
        CheckpointError: no such file, none of this net, or of a size without a name.
    """
    model = read_internvideo(path)
    recipe = recipe_for(Method.INTERN_VQA, asdict(model.config))
    card = Card(
        method=Method.INTERN_VQA.value,
        shape=recipe.shape,
        clip_frames=model.config.frames,
        label=UNTAUGHT,
        preprocessing=recipe.preprocessing,
        data={"published": path.name},
        licence=licence,
    )
    return Checkpoint(card, model.state_dict())
