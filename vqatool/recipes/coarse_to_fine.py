"""Coarse-to-fine (arXiv 2401.08522): fragments and what goes with them, group and rank losses."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from vqatool.clips import Burst
from vqatool.losses import quality_loss, rank_loss
from vqatool.models.coarse_to_fine import CoarseToFine, CoarseToFineConfig, StreamLayout
from vqatool.recipes.base import Input, LossWeights, Recipe, configured, weighted_terms
from vqatool.stream import STEP_ORIGIN, StreamFacts
from vqatool.views.fragments import fragments, rearranged
from vqatool.views.motion import MOTION_FIGURES, motion_vector
from vqatool.views.stream import stream_vector

STREAM_LAYOUT = StreamLayout(
    width=len(StreamFacts._fields),
    log2_step=StreamFacts._fields.index("step_inter"),
    has_step=StreamFacts._fields.index("has_step"),
    step_origin=STEP_ORIGIN,
)
USUAL_WEIGHTS = {"plcc": 0.3, "group": 0.1, "rank": 1.0, "frame": 0.3, "pixels": 0.5}


def coarse_to_fine(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `CoarseToFineConfig`."""
    config = configured(CoarseToFineConfig, shape)
    rank = partial(rank_loss, margin=weights.margin)
    return Recipe(
        inputs=_inputs(config),
        burst=Burst(2 if config.has_motion else 1),
        build=lambda: CoarseToFine(config, MOTION_FIGURES, STREAM_LAYOUT),
        loss=partial(weighted_terms, weights.over(USUAL_WEIGHTS), quality_loss, rank),
        shape=asdict(config),
        preprocessing=_preprocessing(config),
        reads_stream=config.has_stream,
    )


def _inputs(config: CoarseToFineConfig) -> tuple[Input, ...]:
    cut = partial(fragments, grid=config.grid, patch=config.patch)
    pixels = Input(cut, partial(rearranged, patch=config.patch))
    motion = (Input(motion_vector),) if config.has_motion else ()
    stream = (Input(stream_vector),) if config.has_stream else ()
    return (pixels, *motion, *stream)


def _preprocessing(config: CoarseToFineConfig) -> str:
    patches = f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, untouched"
    motion = ", and its difference from the next one" if config.has_motion else ""
    stream = "; the facts of the stream's headers" if config.has_stream else ""
    return f"{patches}, of each frame scaled (bicubic) to its display{motion}{stream}"
