"""Coarse-to-fine (arXiv 2401.08522): fragments and what goes with them, group and rank losses."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from vqatool.inputs.bitstream import STEP_ORIGIN, BitstreamFeatures, bitstream_vector
from vqatool.inputs.clip import FrameGroup
from vqatool.inputs.fragments import fragments, rearranged
from vqatool.inputs.motion import MOTION_FIGURES, motion_vector
from vqatool.losses import quality_loss, rank_loss
from vqatool.methods.recipe import Input, LossWeights, Recipe, build_config, weighted_terms
from vqatool.models.coarse_to_fine import BitstreamLayout, CoarseToFine, CoarseToFineConfig

BITSTREAM_LAYOUT = BitstreamLayout(
    width=len(BitstreamFeatures._fields),
    log2_step=BitstreamFeatures._fields.index("step_inter"),
    has_step=BitstreamFeatures._fields.index("has_step"),
    step_origin=STEP_ORIGIN,
)


DEFAULT_WEIGHTS = {"plcc": 0.3, "group": 0.1, "rank": 1.0, "frame": 0.3, "pixels": 0.5}


def coarse_to_fine(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `CoarseToFineConfig`."""
    config = build_config(CoarseToFineConfig, shape)
    rank = partial(rank_loss, margin=weights.margin)
    return Recipe(
        inputs=_inputs(config),
        frame_group=FrameGroup(2 if config.has_motion else 1),
        build=lambda: CoarseToFine(config, MOTION_FIGURES, BITSTREAM_LAYOUT),
        loss=partial(weighted_terms, weights.with_defaults(DEFAULT_WEIGHTS), quality_loss, rank),
        shape=asdict(config),
        preprocessing=_preprocessing(config),
        reads_stream=config.has_stream,
    )


def _inputs(config: CoarseToFineConfig) -> tuple[Input, ...]:
    cut = partial(fragments, grid=config.grid, patch=config.patch)
    pixels = Input(cut, partial(rearranged, patch=config.patch))
    motion = (Input(motion_vector),) if config.has_motion else ()
    stream = (Input(bitstream_vector),) if config.has_stream else ()
    return (pixels, *motion, *stream)


def _preprocessing(config: CoarseToFineConfig) -> str:
    patches = f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, untouched"
    motion = ", and its difference from the next one" if config.has_motion else ""
    stream = "; the facts of the stream's headers" if config.has_stream else ""
    return f"{patches}, of each frame scaled (bicubic) to its display{motion}{stream}"
