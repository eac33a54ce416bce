"""The variants that studies compare, and the initial weights and teacher of each."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from vqatool.errors import CheckpointError
from vqatool.inference.model_file import Checkpoint
from vqatool.methods import Method
from vqatool.training.initialization import Initialization
from vqatool.training.trainer import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings of one variant: method, weights of the loss terms, shape of the model.

    `shape` sets everything that `name` claims, because initial weights bring a shape of their own.
    A variant with `tune` needs initial weights, one with `has_teacher` needs a teacher.
    """

    name: str
    method: Method = Method.COARSE_TO_FINE
    weights: Mapping[str, Any] = field(default_factory=dict)
    shape: Mapping[str, Any] = field(default_factory=dict)
    tune: str = ""
    has_teacher: bool = False
    is_detached: bool = False

    def config(self, base: TrainConfig, seed: int) -> TrainConfig:
        """Settings of a training. It has one validation, so weights are not selected by chance."""
        return replace(
            base,
            method=self.method.value,
            seed=seed,
            validations=1,
            shape={**base.shape, **self.shape},
            tune=self.tune or base.tune,
            is_detached=self.is_detached,
            weights=replace(base.weights, **self.weights),
        )


def _grid() -> tuple[Variant, ...]:
    return tuple(
        Variant(name=f"group {group:g}, rank {rank:g}", weights={"group": group, "rank": rank})
        for group, rank in itertools.product((0.03, 0.1, 0.3), (0.3, 1.0, 3.0))
    )


# about 128 x 128 px of each frame for every method, whatever the shape of initial weights
_SMALL_MOSAIC = {"grid": 4, "patch": 32}


_SMALL_ZOOM = {
    "still_short_px": 512, "crop_px": 128, "run_short_px": 480, "grid": 4, "patch": 48,
    "burst_frames": 4,
}  # fmt: skip


_SMALL_SAMA = {**_SMALL_MOSAIC, "burst_frames": 2}


_SWIN_EXTENSIONS = {"has_local_luma": True, "has_conv_stem": True}


_SWIN_ONLY = dict.fromkeys(
    ("has_stream", "has_probing", "has_deep", "has_figure_score", "has_motion", "has_bands"), False
)


STUDIES: dict[str, tuple[Variant, ...]] = {
    "terms": (
        Variant(name="no contrastive terms", weights={"group": 0.0, "rank": 0.0}),
        Variant(name="group contrast", weights={"rank": 0.0}),
        Variant(name="rank", weights={"group": 0.0}),
        Variant(name="both"),
    ),
    "contrast": tuple(
        Variant(name=name, weights={"contrast": name}) for name in ("ours", "tta", "supcon")
    ),
    "weights": _grid(),
    "temporal": (
        Variant(name="mean", shape={"temporal_layers": 0}),
        Variant(name="transformer", shape={"temporal_layers": 1}),
    ),
    "window": tuple(
        Variant(name=f"window {window}", shape={"window": window}) for window in (4, 8, 16)
    ),
    "view": (
        Variant(name="4 x 4 patches of 32 px", shape=_SMALL_MOSAIC),
        Variant(name="2 x 2 patches of 64 px", shape={"grid": 2, "patch": 64}),
        Variant(name="one crop of 128 px", shape={"grid": 1, "patch": 128}),
    ),
    "input": (
        Variant(name="all", shape={**dict.fromkeys(_SWIN_ONLY, True), **_SWIN_EXTENSIONS}),
        Variant(name="without probing", shape={"has_probing": False}),
        Variant(name="without deep features", shape={"has_deep": False}),
        Variant(name="without bitstream features", shape={"has_stream": False}),
        Variant(name="without motion", shape={"has_motion": False}),
        Variant(name="without band contrast", shape={"has_bands": False}),
        Variant(name="SwinV2 alone", shape=_SWIN_ONLY),
        Variant(name="SwinV2 without local luma", shape={**_SWIN_ONLY, "has_local_luma": False}),
        Variant(name="SwinV2 without conv stem", shape={**_SWIN_ONLY, "has_conv_stem": False}),
    ),
    "methods": (
        Variant(name="coarse-to-fine", shape={**_SMALL_MOSAIC, "has_stream": True}),
        Variant(name="coarse-to-fine, pixels alone", shape={**_SMALL_MOSAIC, "has_stream": False}),
        Variant(name="SAMA", method=Method.SAMA, shape={**_SMALL_SAMA, "mask": "sama"}),
        Variant(name="Zoom-VQA", method=Method.ZOOM_VQA, shape=_SMALL_ZOOM),
        Variant(name="Q-Mamba", method=Method.Q_MAMBA, shape=_SMALL_MOSAIC),
        Variant(name="InternVQA", method=Method.INTERN_VQA, shape={"grid": 3, "patch": 42}),
    ),
    "masks": tuple(
        Variant(name=mask, method=Method.SAMA, shape={**_SMALL_SAMA, "mask": mask})
        for mask in ("fragments", "sama", "sama-c", "sama-mix", "sama-swm", "sama-spm")
    ),
    "teacher": (
        Variant(name="alone"),
        Variant(name="taught", has_teacher=True),
        Variant(name="taught, teacher detached", has_teacher=True, is_detached=True),
    ),
    "tune": (
        Variant(name="head", method=Method.Q_MAMBA, tune="head"),
        Variant(name="prompts", method=Method.Q_MAMBA, tune="prompts", shape={"prompts": 4}),
        Variant(name="all", method=Method.Q_MAMBA, tune="all"),
    ),
}
"""Variants of each study; the others of a study are compared with its first."""


NEEDS_WEIGHTS = ("tune",)
"""Studies that need initial weights of Q-Mamba."""


FROM_SCRATCH = ("temporal", "input")
"""Studies without initial weights: their variants have different parameters."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A variant of a study, and the initialization of its trainings."""

    study: str
    variant: Variant
    initialization: Initialization

    @property
    def name(self) -> str:
        """Unique among the trials."""
        return f"{self.study}: {self.variant.name}"

    def config(self, base: TrainConfig, seed: int) -> TrainConfig:
        """Settings of the training with that seed; initial weights bring their own size."""
        shape = {name: value for name, value in base.shape.items() if name != "size"}
        return self.variant.config(
            replace(base, shape=shape) if self.initialization.init else base, seed
        )

    def require_weights(self, base: TrainConfig) -> None:
        """Check that the initial weights and the teacher fit this variant.

        Raises:
            CheckpointError: they have missing or additional parameters, or their file is of another
                version.
        """
        try:
            self.initialization.model(self.config(base, 0))
        except CheckpointError as error:
            raise CheckpointError(f"{self.name}: {error}") from error


def trials(
    studies: Sequence[str],
    inits: Mapping[str, Checkpoint] = MappingProxyType({}),
    teacher: Checkpoint | None = None,
) -> list[Trial]:
    """Every variant of some studies, with the initial weights of its method if there are any.

    Args:
        studies: names of `STUDIES`.
        inits: initial weights, by method; the studies of `FROM_SCRATCH` do not use them.
        teacher: for the variants that have one.

    Raises:
        CheckpointError: a variant has no initial weights but needs them, or others of its study
            have them.
    """
    return [
        Trial(
            study=study,
            variant=variant,
            initialization=Initialization(
                init=_init(study, variant, {} if study in FROM_SCRATCH else inits),
                teacher=teacher if variant.has_teacher else None,
            ),
        )
        for study in studies
        for variant in STUDIES[study]
    ]


def _init(study: str, variant: Variant, inits: Mapping[str, Checkpoint]) -> Checkpoint | None:
    method = variant.method.value
    if method in inits:
        return inits[method]
    if variant.tune:
        raise CheckpointError(
            f"{study}: {variant.name} starts from a trained model: add --init FILE of {method}"
        )
    if any(other.method.value in inits for other in STUDIES[study]):
        raise CheckpointError(
            f"{study}: {variant.name} would start from scratch, and other variants would not: "
            f"add --init FILE of {method} (`vqatool pretrain --method {method}` makes one)"
        )
    return None
