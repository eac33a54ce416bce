"""InternVideo2's published weights for those who have the file: names and positions.

Files of the project (arXiv 2403.15377) hold a video encoder alone, or among other nets under a
prefix; with a classifier's head, or the decoders of pre-training. Taken is the encoder, and all of
it has to be there. A head that gives one score is taken too; otherwise head and its norm are new.
Positions are stretched to the model's frames and side, as the project does between its stages.

Shapes: N tokens, D width.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vqatool.errors import CheckpointError
from vqatool.models.attention import Grid, interpolate_pos_embed
from vqatool.models.internvideo import INTERNVIDEO_SIZES, InternVideo, published
from vqatool.models.weight_files import WeightFile, fill

INTERNVIDEO_STEM = "patch_embed.proj.weight"
"""The encoder's first weight in the project's files."""

_RENAMED = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^clip_projector\.cross_attn\.([qkv])_bias$", r"clip_projector.\1.bias"),
    (r"^clip_projector\.cross_attn\.", "clip_projector."),
)
_OF_PRETRAINING = re.compile(r"\w*decoder\.|\w+_pos_embed$|mask_token$")
_MAY_BE_NEW = ("head.", "fc_norm.")
_TOKENS_A_SIDE = 16  # of 224 px


def internvideo_of(file: WeightFile) -> InternVideo:
    """A file's net in its published size, with its weights.

    Raises:
        CheckpointError: it holds none of this net, or one of a size without a name.
    """
    weights = published_weights(file)
    width = weights["patch_embed.weight"].shape[0]
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    if not depth:
        raise CheckpointError(f"{file.path} is no file of InternVideo2: it has no blocks")
    for name, size in INTERNVIDEO_SIZES.items():
        if (size.width, size.depth) == (width, depth):
            model = InternVideo(published(name))
            take_weights(model, weights, file.path)
            return model
    raise CheckpointError(
        f"{file.path} holds {depth} blocks of width {width}, which no size of InternVideo2 has: "
        f"{', '.join(INTERNVIDEO_SIZES)}"
    )


def take_weights(model: InternVideo, weights: Mapping[str, Tensor], path: Path) -> list[str]:
    """Put published weights into a model without stem or luma of ours; what the file did not have.

    Args:
        model: of the file's size, for any number of frames and any side.
        weights: what `published_weights` gave; positions of 16 x 16 tokens a frame.
        path: file they are from, for errors.

    Raises:
        CheckpointError: weights are missing, unknown or of other shapes; all is as it was.
    """
    own = model.state_dict()
    taken = {name: value for name, value in weights.items() if not _OF_PRETRAINING.match(name)}
    if taken.get("head.weight", own["head.weight"]).shape != own["head.weight"].shape:
        # of a classifier, whose norm means as little for a score
        taken = {name: value for name, value in taken.items() if not name.startswith(_MAY_BE_NEW)}
    if "pos_embed" in taken:
        taken["pos_embed"] = _stretched(taken["pos_embed"], model.grid, path)
    return fill(model, taken, path, may_be_new=_MAY_BE_NEW)


def published_weights(file: WeightFile) -> dict[str, Tensor]:
    """The video encoder of a file, by the names that `InternVideo` has.

    Raises:
        CheckpointError: it does not hold one encoder.
    """
    found = file.net(INTERNVIDEO_STEM, "InternVideo2")
    weights = {_ours(name): value for name, value in found.items()}
    stem = weights["patch_embed.weight"]
    if stem.ndim == 5 and stem.shape[2] == 1:  # over one frame a 3-D convolution is a 2-D one
        weights["patch_embed.weight"] = stem.squeeze(2)
    return weights


def _ours(name: str) -> str:
    for pattern, ours in _RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def _stretched(positions_1ND: Tensor, wanted: Grid, path: Path) -> Tensor:
    places = positions_1ND.shape[-2] - 1
    frames, rest = divmod(places, _TOKENS_A_SIDE**2)
    if rest or not frames:
        raise CheckpointError(
            f"{path} has {places} positions, not {_TOKENS_A_SIDE} x {_TOKENS_A_SIDE} a frame"
        )
    return interpolate_pos_embed(
        positions_1ND.float(), (frames, _TOKENS_A_SIDE, _TOKENS_A_SIDE), wanted
    )
