"""Coarse-to-fine (arXiv 2401.08522), the default method.

"Video Quality Assessment Based on Swin TransformerV2 and Coarse to Fine Strategy". As published: a
SwinV2 network with a temporal transformer (`models.coarse_to_fine`), a group contrastive loss
between bitrate groups (coarse), a rank loss inside each group (fine), and labels from VMAF. The
paper gives neither the losses' formulas nor their weights: `losses` names the sources of the
formulas, the weights are ours. Different: the pixels are fragments of the frames, because resizing
would remove what compression did; motion, probing, deep and bitstream features are inputs too; PLCC
and frame terms are added; and every step also trains the output without bitstream features, for
files whose headers cannot be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from vqatool.inputs.bitstream import (
    READABLE_STREAM,
    STEP_ORIGIN,
    BitstreamFeatures,
    bitstream_vector,
)
from vqatool.inputs.clip import Array, FrameGroup, GroupedView
from vqatool.inputs.deep_features import (
    NUM_DEEP_FEATURES,
    features_of_patches,
    network_digest,
    patches,
)
from vqatool.inputs.fragments import fragments, rearranged
from vqatool.inputs.motion import NUM_MOTION_FEATURES, READABLE_MOTION, motion_vector
from vqatool.inputs.probing import (
    NUM_OCTAVE_FEATURES,
    NUM_PROBING_FEATURES,
    READABLE_PROBES,
    mean_of_probes,
    probes,
)
from vqatool.methods.recipe import Input, Loss, LossWeights, Recipe, build_config
from vqatool.models.shapes import BitstreamLayout, CoarseToFineConfig

if TYPE_CHECKING:  # for annotations alone: it needs torch
    from vqatool.models.quality import QualityModel

BITSTREAM_LAYOUT = BitstreamLayout(
    width=len(BitstreamFeatures._fields),
    log2_step=BitstreamFeatures._fields.index("step_inter"),
    has_step=BitstreamFeatures._fields.index("has_step"),
    is_known=BitstreamFeatures._fields.index("is_known"),
    step_origin=STEP_ORIGIN,
)

DEFAULT_WEIGHTS = {"plcc": 0.3, "group": 0.1, "rank": 1.0, "frame": 0.3, "tile": 1.0, "pixels": 0.5}


def coarse_to_fine(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `CoarseToFineConfig`."""
    config = build_config(CoarseToFineConfig, shape)

    def build() -> "QualityModel":
        from vqatool.models.coarse_to_fine import CoarseToFine

        return CoarseToFine(
            config,
            NUM_MOTION_FEATURES,
            BITSTREAM_LAYOUT,
            NUM_PROBING_FEATURES,
            NUM_OCTAVE_FEATURES,
            NUM_DEEP_FEATURES,
        )

    def make_loss() -> Loss:
        from vqatool.losses import quality_loss, rank_loss
        from vqatool.methods.terms import weighted_terms

        rank = partial(rank_loss, margin=weights.margin)
        return partial(weighted_terms, weights.with_defaults(DEFAULT_WEIGHTS), quality_loss, rank)

    return Recipe(
        inputs=_inputs(config),
        frame_group=FrameGroup(2 if config.has_motion else 1),
        build=build,
        make_loss=make_loss,
        shape=asdict(config),
        preprocessing=_preprocessing(config),
        reads_stream=config.has_stream,
        free_in_export="clips and groups",
    )


def _inputs(config: CoarseToFineConfig) -> tuple[Input, ...]:
    view = partial(fragments, grid=config.grid, patch=config.patch)
    augment = partial(rearranged, patch=config.patch)
    deep = GroupedView(patches, finish=features_of_patches, version=network_digest)
    pixels = Input(GroupedView(view), augment, has_tiles=config.has_tiles)
    # each group has the clip's
    stream = GroupedView(bitstream_vector, _first, is_of_stream=True)
    probe = partial(probes, has_octaves=True) if config.takes_octaves else probes
    motion, probing = GroupedView(motion_vector), GroupedView(probe, mean_of_probes)
    figures = partial(Input, is_random=False)
    of_clips = (
        (config.has_motion, figures(motion, name="motion", readable=READABLE_MOTION)),
        (config.has_probing, figures(probing, name="detail", readable=READABLE_PROBES)),
        # the figure network alone takes them, which is fitted after a training
        (config.takes_deep, figures(deep, name="pixels", unused=NUM_DEEP_FEATURES)),
        (config.has_stream, figures(stream, name="bitstream", readable=READABLE_STREAM)),
    )
    return (pixels, *(each for is_there, each in of_clips if is_there))


def _first(parts: Sequence[Array]) -> Array:
    return parts[0]


def _preprocessing(config: CoarseToFineConfig) -> str:
    patches = f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, not resized"
    motion = ", and its difference from the next frame" if config.has_motion else ""
    probing = "; bits and losses of encoding it again" if config.has_probing else ""
    deep = "; deep features of larger patches" if config.takes_deep else ""
    stream = "; features of the bitstream's headers" if config.has_stream else ""
    return (
        f"{patches}, of each frame scaled (bicubic) to its display{motion}{probing}{deep}{stream}"
    )
