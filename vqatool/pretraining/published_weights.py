"""Published weights of other projects -> a model file of ours, to start training from.

Two networks are known, each by the name of its first weight:

- InternVideo2's video transformer (arXiv 2403.15377) becomes a model of the method intern-vqa. The
  project's files hold the encoder alone, or with other networks under a prefix; with a classifier
  or with the decoders of pre-training. The whole encoder is required. A head with one output is
  loaded too; otherwise head and norm keep their initial values. Positional embeddings are
  interpolated to the model's frames and side, as the project does between its training stages.
- The backbone of VMamba's second version (arXiv 2401.10166: one state a channel, no gate branch)
  becomes a model of the method q-mamba. The whole backbone is required; classifier and detector
  norms are skipped; the head keeps its initial values. The sizes small and base (15 blocks in the
  third stage) are those of Q-Mamba. VMamba-T has more than Q-Mamba's 4 blocks there, so it is
  refused.

Files are safetensors or PyTorch's own format. They are read without running code from them.

Shapes: N tokens, D width.
"""

import argparse
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vqatool.errors import CheckpointError
from vqatool.inference.card import UNTRAINED, ModelCard
from vqatool.inference.model_file import Checkpoint
from vqatool.inputs.clip import DEFAULT_FRAME_GROUPS
from vqatool.methods import Method, recipe_for
from vqatool.models.internvideo import (
    Grid,
    InternVideo,
    interpolate_pos_embed,
    published_config,
)
from vqatool.models.q_mamba import QMamba
from vqatool.models.shapes import INTERNVIDEO_SIZES, VMAMBA_SIZES, QMambaConfig, VMambaSize


def published_checkpoint(path: Path, *, licence: str = "") -> Checkpoint:
    """A published network as a checkpoint of ours, in its published size, with an untrained head.

    Args:
        path: .pth, .bin, .pt or .safetensors file with one of the two networks.
        licence: of the weights, for the model card.

    Raises:
        CheckpointError: the file is missing or unreadable, or holds neither network, or one of a
            size that this program does not have.
    """
    file = read_weights(path)
    for first_weight, (method, load) in _NETWORKS.items():
        if file.prefixes(first_weight):
            return _checkpoint(method, load(file), path, licence)
    raise CheckpointError(
        f"{path} has no {' and no '.join(_NETWORKS)}: it is no file of InternVideo2 or VMamba"
    )


def _checkpoint(
    method: Method, model: InternVideo | QMamba, path: Path, licence: str
) -> Checkpoint:
    recipe = recipe_for(method, asdict(model.config))
    card = ModelCard(
        method=method.value,
        shape=recipe.shape,
        clip_frames=DEFAULT_FRAME_GROUPS,
        label=UNTRAINED,
        preprocessing=recipe.preprocessing,
        data={"published": path.name},
        licence=licence,
    )
    return Checkpoint(card, model.state_dict())


# Reading a file

# Keys under which training programs store weights. Running averages come first: they are what the
# projects evaluate.
_WEIGHT_KEYS = ("model_ema", "model", "module", "state_dict", "model_state_dict")
_SAFE_TYPES: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    (OrderedDict, "yacs.config.CfgNode"),
]
"""Types of the settings that training programs store beside the weights; none runs code."""

_MAX_NAMES = 5  # in an error message


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a file by name; `path` is for error messages."""

    path: Path
    weights: Mapping[str, Tensor]

    def prefixes(self, first_weight: str) -> list[str]:
        """The prefix of each weight whose name is `first_weight` or ends in `.first_weight`."""
        names = [name for name in self.weights if f".{name}".endswith(f".{first_weight}")]
        return [name.removesuffix(first_weight) for name in names]

    def network(self, first_weight: str, name: str) -> dict[str, Tensor]:
        """The weights of the one network that has `first_weight`, without their prefix.

        Args:
            first_weight: name that identifies the network.
            name: of the network, for error messages.

        Raises:
            CheckpointError: the file holds no such network, or several.
        """
        prefixes = self.prefixes(first_weight)
        if len(prefixes) != 1:
            found = f"several of them: {_listed(prefixes)}" if prefixes else f"no {first_weight}"
            raise CheckpointError(f"{self.path} is no file of {name}: it has {found}")
        (prefix,) = prefixes
        return {
            key.removeprefix(prefix): value
            for key, value in self.weights.items()
            if key.startswith(prefix)
        }


def read_weights(path: Path) -> WeightFile:
    """All tensors of a file; inside a stored training state they are found, too.

    Raises:
        CheckpointError: the file is missing, would run code, or holds no weights.
    """
    return WeightFile(path, {str(n): v for n, v in _read(path).items() if isinstance(v, Tensor)})


def _read(path: Path) -> Mapping[Any, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_SAFE_TYPES):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights, which could run code, or is broken: "
            "have its state_dict saved as safetensors by someone who trusts it"
        ) from error
    while isinstance(content, Mapping) and (keys := _weight_keys(content)):
        content = content[keys[0]]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds no weights but a {type(content).__name__}")
    return content


def _weight_keys(content: Mapping[Any, Any]) -> list[str]:
    """The keys that may hold the weights; a running average that was not kept is None."""
    return [key for key in _WEIGHT_KEYS if content.get(key) is not None]


def load_matching(
    model: nn.Module, weights: Mapping[str, Tensor], path: Path, *, optional: Sequence[str]
) -> list[str]:
    """Load weights into a model, and return the sorted names of those that were missing.

    Args:
        model: keeps its own values for the missing weights.
        weights: by the model's names.
        path: file that the weights are from, for error messages.
        optional: prefixes of the names that may be missing.

    Raises:
        CheckpointError: other weights are missing, or some are unknown or of another shape. The
            model is unchanged then.
    """
    own = model.state_dict()
    missing = own.keys() - weights.keys()
    faults = {
        "missing": (name for name in missing if not name.startswith(tuple(optional))),
        "unknown": weights.keys() - own.keys(),
        "of another shape": (
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in weights.keys() & own.keys()
            if weights[name].shape != own[name].shape
        ),
    }
    messages = [
        f"{fault}: {_listed(names)}" for fault, found in faults.items() if (names := [*found])
    ]
    if messages:
        raise CheckpointError(f"{path} does not fit the model; " + "; ".join(messages))
    model.load_state_dict(weights, strict=False)
    return sorted(missing)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_MAX_NAMES]) + (", ..." if len(ordered) > _MAX_NAMES else "")


# InternVideo2

_INTERNVIDEO_FIRST = "patch_embed.proj.weight"
_INTERNVIDEO_RENAMED = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^clip_projector\.cross_attn\.([qkv])_bias$", r"clip_projector.\1.bias"),
    (r"^clip_projector\.cross_attn\.", "clip_projector."),
)
_INTERNVIDEO_SKIPPED = re.compile(r"\w*decoder\.|\w+_pos_embed$|mask_token$")  # pre-training only
_INTERNVIDEO_OPTIONAL = ("head.", "fc_norm.")
_TOKENS_PER_SIDE = 16  # of the published 224 px


def internvideo_from_file(file: WeightFile) -> InternVideo:
    """The file's network in its published size, with its weights.

    Raises:
        CheckpointError: the file does not hold one such network, or one of an unknown size.
    """
    weights = internvideo_weights(file)
    width = weights["patch_embed.weight"].shape[0]
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    if not depth:
        raise CheckpointError(f"{file.path} is no file of InternVideo2: it has no blocks")
    for name, size in INTERNVIDEO_SIZES.items():
        if (size.width, size.depth) == (width, depth):
            model = InternVideo(published_config(name))
            load_internvideo_weights(model, weights, file.path)
            return model
    raise CheckpointError(
        f"{file.path} holds {depth} blocks of width {width}, which no size of InternVideo2 has: "
        f"{', '.join(INTERNVIDEO_SIZES)}"
    )


def internvideo_weights(file: WeightFile) -> dict[str, Tensor]:
    """The weights of a file's video encoder, by the names that `InternVideo` has.

    Raises:
        CheckpointError: the file does not hold one such encoder.
    """
    found = file.network(_INTERNVIDEO_FIRST, "InternVideo2")
    weights = {_internvideo_name(name): value for name, value in found.items()}
    stem = weights["patch_embed.weight"]
    if stem.ndim == 5 and stem.shape[2] == 1:  # over one frame a 3-D convolution is a 2-D one
        weights["patch_embed.weight"] = stem.squeeze(2)
    return weights


def load_internvideo_weights(
    model: InternVideo, weights: Mapping[str, Tensor], path: Path
) -> list[str]:
    """Load published weights, and return the sorted names of those that the file lacks.

    Args:
        model: of the file's size, without our stem and luma channel; any number of frames and any
            side.
        weights: what `internvideo_weights` returned; positions of 16 x 16 tokens a frame.
        path: file that the weights are from, for error messages.

    Raises:
        CheckpointError: weights are missing, unknown or of another shape. The model is unchanged
            then.
    """
    own = model.state_dict()
    kept = {n: value for n, value in weights.items() if not _INTERNVIDEO_SKIPPED.match(n)}
    if kept.get("head.weight", own["head.weight"]).shape != own["head.weight"].shape:
        # a classifier's head; its norm does not suit a score either
        kept = {n: value for n, value in kept.items() if not n.startswith(_INTERNVIDEO_OPTIONAL)}
    if "pos_embed" in kept:
        kept["pos_embed"] = _interpolated(kept["pos_embed"], model.grid, path)
    return load_matching(model, kept, path, optional=_INTERNVIDEO_OPTIONAL)


def _internvideo_name(name: str) -> str:
    for pattern, ours in _INTERNVIDEO_RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def _interpolated(pos_embed_1ND: Tensor, grid: Grid, path: Path) -> Tensor:
    positions = pos_embed_1ND.shape[-2] - 1  # the first is the class token's
    frames, rest = divmod(positions, _TOKENS_PER_SIDE**2)
    if rest or not frames:
        raise CheckpointError(
            f"{path} has {positions} positions, not {_TOKENS_PER_SIDE} x {_TOKENS_PER_SIDE} a frame"
        )
    file_grid = (frames, _TOKENS_PER_SIDE, _TOKENS_PER_SIDE)
    return interpolate_pos_embed(pos_embed_1ND.float(), file_grid, grid)


# VMamba

_VMAMBA_FIRST = "patch_embed.0.weight"
_STEM_LAYERS = {"0": "0._conv", "2": "0._norm", "5": "2._conv", "7": "2._norm"}
_BLOCK_LAYERS = {
    "norm": "_scan.0",
    "op.in_proj": "_scan.1._in",
    "op.conv2d": "_scan.1._conv",
    "op.x_proj_weight": "_scan.1._read",
    "op.dt_projs_weight": "_scan.1._step",
    "op.dt_projs_bias": "_scan.1._step_bias",
    "op.A_logs": "_scan.1._log_rate",
    "op.Ds": "_scan.1._skip",
    "op.out_norm": "_scan.1._norm",
    "op.out_proj": "_scan.1._out",
    "norm2": "_mlp.0",
    "mlp.fc1": "_mlp.1",
    "mlp.fc2": "_mlp.3",
}
_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")
_VMAMBA_SKIPPED = re.compile(r"classifier\.|outnorm\d\.")
_FLAT = re.compile(r".*\.op\.(dt_projs_bias|A_logs)$")  # one axis with us, two in the file


def published_q_mamba_config(size: str) -> QMambaConfig:
    """The config of a published size: the one that published weights fit."""
    return QMambaConfig(size=size, has_local_luma=False, has_local_scan=False, has_gate=False)


def q_mamba_from_file(file: WeightFile) -> QMamba:
    """Q-Mamba in the size of the file's backbone, with its weights and an untrained head.

    Raises:
        CheckpointError: the file does not hold one such backbone, or one of an unknown size.
    """
    found = file.network(_VMAMBA_FIRST, "VMamba")
    width = 2 * len(found[_VMAMBA_FIRST])  # the stem widens in two steps
    blocks = {match.groups() for name in found if (match := _BLOCK.match(name))}
    depths = tuple(sum(stage == str(index) for stage, _ in blocks) for index in range(4))
    for name, size in VMAMBA_SIZES.items():
        if (size.embed_dim, size.depths) == (width, depths):
            model = QMamba(published_q_mamba_config(name))
            load_matching(model, _q_mamba_weights(found, size), file.path, optional=["_head."])
            return model
    known = ", ".join(f"{n} {s.depths} of {s.embed_dim}" for n, s in VMAMBA_SIZES.items())
    raise CheckpointError(
        f"{file.path} holds {depths} blocks, the first of width {width}, which no size of Q-Mamba "
        f"has: {known}"
    )


def _q_mamba_weights(weights: Mapping[str, Tensor], size: VMambaSize) -> dict[str, Tensor]:
    """The backbone's weights by the names and in the shapes that `QMamba` has."""
    layers = dict(_layer_names(size))
    renamed = {}
    for name, value in weights.items():
        if _VMAMBA_SKIPPED.match(name):
            continue
        layer, _, kind = name.rpartition(".")
        ours = layers.get(name) or (f"{layers[layer]}.{kind}" if layer in layers else name)
        if value.ndim == 4 and value.shape[2:] == (1, 1):  # a 1 x 1 convolution: a linear layer
            value = value.flatten(1)
        renamed[f"_backbone.{ours}"] = value.flatten() if _FLAT.match(name) else value
    return renamed


def _layer_names(size: VMambaSize) -> Iterator[tuple[str, str]]:
    """The project's name of each layer, or of a weight outside layers, and ours."""
    for theirs, ours in _STEM_LAYERS.items():
        yield f"patch_embed.{theirs}", f"_stem.{ours}"
    for stage, depth in enumerate(size.depths):
        if stage:  # theirs downsamples after a stage's blocks, ours before those of the next
            yield f"layers.{stage - 1}.downsample.1", f"_stages.{stage}.0._conv"
            yield f"layers.{stage - 1}.downsample.3", f"_stages.{stage}.0._norm"
        for block in range(depth):
            inside = f"_stages.{stage}.{block + 1}"  # index 0 is the downsampling
            for theirs, ours in _BLOCK_LAYERS.items():
                yield f"layers.{stage}.blocks.{block}.{theirs}", f"{inside}.{ours}"


_NETWORKS: dict[str, tuple[Method, Callable[[WeightFile], InternVideo | QMamba]]] = {
    _INTERNVIDEO_FIRST: (Method.INTERN_VQA, internvideo_from_file),
    _VMAMBA_FIRST: (Method.Q_MAMBA, q_mamba_from_file),
}
"""By the name of the first weight: what the network becomes, and how it is read."""
