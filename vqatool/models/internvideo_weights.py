"""InternVideo2's published weights for those who have the file: safe reading, names, positions.

Files of the project (arXiv 2403.15377) hold a video encoder alone, or among other nets under a
prefix; with a classifier's head, or the decoders of pre-training. Taken is the encoder, and all of
it has to be there. A head that gives one score is taken too; otherwise head and its norm are new.
Positions are stretched to the model's frames and side, as the project does between its stages.

Shapes: N tokens, D width.
"""

import argparse
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vqatool.errors import CheckpointError
from vqatool.models.attention import Grid, regridded
from vqatool.models.internvideo import INTERNVIDEO_SIZES, InternVideo, published

_STEM = "patch_embed.proj.weight"  # what is in front of it is the encoder's prefix
_INSIDE = ("model", "module", "state_dict", "model_state_dict")
_RENAMED = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^clip_projector\.cross_attn\.([qkv])_bias$", r"clip_projector.\1.bias"),
    (r"^clip_projector\.cross_attn\.", "clip_projector."),
)
_OF_PRETRAINING = re.compile(r"\w*decoder\.|\w+_pos_embed$|mask_token$")
_MAY_BE_NEW = ("head.", "fc_norm.")
_TOKENS_A_SIDE = 16  # of 224 px
_MOST_NAMED = 5


def read_internvideo(path: Path) -> InternVideo:
    """A file's net in its published size, with its weights.

    Raises:
        CheckpointError: no such file, none of this net, or of a size without a name.
    """
    weights = published_weights(path)
    width = weights["patch_embed.weight"].shape[0]
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    for name, size in INTERNVIDEO_SIZES.items():
        if (size.width, size.depth) == (width, depth):
            model = InternVideo(published(name))
            take_weights(model, weights, path)
            return model
    raise CheckpointError(
        f"{path} holds {depth} blocks of width {width}, which no size of InternVideo2 has: "
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
    missing = own.keys() - taken.keys()
    faults = {
        "missing": (name for name in missing if not name.startswith(_MAY_BE_NEW)),
        "unknown": taken.keys() - own.keys(),
        "of another shape": (
            f"{name} {tuple(taken[name].shape)} for {tuple(own[name].shape)}"
            for name in taken.keys() & own.keys()
            if taken[name].shape != own[name].shape
        ),
    }
    told = [f"{fault}: {_some(names)}" for fault, found in faults.items() if (names := [*found])]
    if told:
        raise CheckpointError(f"{path} does not fit the model; " + "; ".join(told))
    model.load_state_dict(taken, strict=False)
    return sorted(missing)


def published_weights(path: Path) -> dict[str, Tensor]:
    """The video encoder of a file, by the names that `InternVideo` has.

    Raises:
        CheckpointError: no such file, one that would run code, or without one encoder.
    """
    found = _read(path)
    prefixes = [name.removesuffix(_STEM) for name in found if f".{name}".endswith(f".{_STEM}")]
    if len(prefixes) != 1:
        what = f"several encoders: {_some(prefixes)}" if prefixes else f"no {_STEM}"
        raise CheckpointError(f"{path} is no file of InternVideo2: it has {what}")
    (prefix,) = prefixes
    weights = {
        _renamed(name.removeprefix(prefix)): value
        for name, value in found.items()
        if name.startswith(prefix)
    }
    stem = weights["patch_embed.weight"]
    if stem.ndim == 5 and stem.shape[2] == 1:  # over one frame a 3-D convolution is a 2-D one
        weights["patch_embed.weight"] = stem.squeeze(2)
    return weights


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # training programs leave their command line beside the weights, and it can do nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights, which could run code, or is broken: "
            "have its state_dict saved as safetensors by someone who trusts it"
        ) from error
    while isinstance(found, Mapping) and (inside := [key for key in _INSIDE if key in found]):
        found = found[inside[0]]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds no weights but a {type(found).__name__}")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _renamed(name: str) -> str:
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
    grid_ND = positions_1ND[0, 1:].float()
    stretched_ND = regridded(grid_ND, (frames, _TOKENS_A_SIDE, _TOKENS_A_SIDE), wanted)
    return torch.cat([positions_1ND[0, :1].float(), stretched_ND])[None]


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_MOST_NAMED]) + (", ..." if len(ordered) > _MOST_NAMED else "")
