"""Export a model for ONNX Runtime: the graph, its weights, the card and the detector in one file.

Loads torch. Which numbers of clips and frames an exported model takes depends on the method
(`Recipe.free_in_export`).
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from ladder.storage import atomic_write
from vqatool.errors import CheckpointError
from vqatool.inference.card import CARD_KEY
from vqatool.inference.contents import CONTENTS_KEY, Contents
from vqatool.inference.model_file import Checkpoint, require_finite
from vqatool.inference.onnx_engine import (
    ENGINE_KEY,
    TYPICAL_KEY,
    OnnxEngine,
    engine_facts,
    typical_facts,
)
from vqatool.inference.torch_engine import NamedOutput, limits_of, typical_inputs
from vqatool.inputs.clip import Clip, collate
from vqatool.inputs.preprocessor import preprocess
from vqatool.methods.recipe import FreeInExport, Recipe

_OPSET = 20
_CLIPS = 2  # that the graph is traced with: of one, torch would take the number for fixed
_EXAMPLE_PX = (288, 512)


def export(checkpoint: Checkpoint, path: Path) -> None:
    """Write an exported model file; it appears whole or not at all.

    Raises:
        CheckpointError: the weights do not fit the shape their card gives, or are not finite.
        OutputError: the file cannot be written.
    """
    for name, value in checkpoint.weights.items():
        require_finite(path, name, value, value)
    recipe, groups = checkpoint.recipe, checkpoint.card.clip_frames
    network = NamedOutput(checkpoint.model(), checkpoint.ood).eval()
    views = example_views(recipe, groups)
    if recipe.free_in_export == "none":
        views = [view[:1] for view in views]
    program = traced(network, views, groups, recipe.free_in_export)
    limits = limits_of(checkpoint.ood) if checkpoint.ood else None
    program.model.metadata_props[CARD_KEY] = checkpoint.card.text()
    program.model.metadata_props[ENGINE_KEY] = engine_facts(checkpoint.name, limits)
    program.model.metadata_props[TYPICAL_KEY] = typical_facts(typical_inputs(network.model))
    if checkpoint.contents:
        program.model.metadata_props[CONTENTS_KEY] = checkpoint.contents.text()
    data = program.model_proto.SerializeToString()
    with atomic_write(path) as file:
        file.write(data)


def export_once(checkpoint: Checkpoint, path: Path) -> None:
    """As `export`, unless the file holds this model already."""
    try:
        held = OnnxEngine(path).model
        same_contents = _text(held.contents) == _text(checkpoint.contents)
        if held.name == checkpoint.name and same_contents:
            return
    except CheckpointError:
        pass  # there is none yet, or an older one
    export(checkpoint, path)


def _text(contents: Contents | None) -> str:
    return contents.text() if contents else ""


def example_views(recipe: Recipe, num_frame_groups: int) -> list[Tensor]:
    """The views of `_CLIPS` clips of noise, as the model takes them."""
    frames = num_frame_groups * recipe.frame_group.num_frames
    noise = np.random.default_rng(0).integers(256, size=(frames, 3, *_EXAMPLE_PX), dtype=np.uint8)
    views = preprocess(recipe.views, Clip(noise, recipe.frame_group.num_frames))
    return [torch.from_numpy(collate([view] * _CLIPS)) for view in views]


def traced(
    network: nn.Module,
    views: Sequence[Tensor],
    num_frame_groups: int,
    free: FreeInExport,
    input_names: Sequence[str] | None = None,
) -> Any:
    """The graph of a network as torch's `ONNXProgram`.

    Args:
        network: gives tensors by name.
        views: an example of its inputs, (B, ...) of whole clips, or (B, T, ...) of frames.
        num_frame_groups: of the example, T or a part of it.
        free: the numbers that may be others than those of the example.
        input_names: of the graph; None: `input_view_0` and so on.
    """
    with torch.no_grad():
        names = list(network(*views))
    # named dimensions: it is an error, not a fixed number without a word, if one is not free
    clips, groups = torch.export.Dim("clips"), torch.export.Dim("groups")
    shapes = []
    for view in views:
        dims: dict[int, Any] = {} if free == "none" else {0: clips}
        if free == "clips and groups" and view.ndim > 2:
            ratio = view.shape[1] // num_frame_groups
            dims[1] = groups if ratio == 1 else ratio * groups
        shapes.append(dims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's own inside, and names of equal dimensions
        graph = torch.export.export(
            network, tuple(views), dynamic_shapes=(tuple(shapes),), strict=False
        )
        program = torch.onnx.export(
            graph,
            dynamo=True,
            input_names=input_names or [f"input_view_{number}" for number in range(len(views))],
            output_names=names,
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None  # it is where a file is named
    # the names of the files and lines that each operator came from
    ClearMetadataAndDocStringPass()(program.model)
    return program
