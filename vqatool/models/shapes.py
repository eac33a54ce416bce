"""The shapes of the models: what a model file stores beside the weights. No torch.

A shape says what a model is shown as well as how it is built, so a program that only asks a model
needs the shape and not the model's code.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

TUBELET = 2
"""Frames of one token of a Swin over space and time."""


@dataclass(frozen=True, kw_only=True)
class SwinSize:
    """Width of the first stage, which doubles at each next one; blocks and heads of each stage."""

    embed_dim: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]


SWIN_SIZES = {
    "nano": SwinSize(embed_dim=48, depths=(2, 2, 2, 2), heads=(3, 6, 12, 24)),
    "tiny": SwinSize(embed_dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24)),
    "small": SwinSize(embed_dim=96, depths=(2, 2, 18, 2), heads=(3, 6, 12, 24)),
    "base": SwinSize(embed_dim=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
    "micro": SwinSize(embed_dim=32, depths=(1, 1, 2, 1), heads=(2, 4, 8, 16)),
    "pico": SwinSize(embed_dim=16, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8)),
}
"""Sizes by name: tiny, small and base are published; nano and micro are ours; pico is for tests."""


@dataclass(frozen=True, kw_only=True)
class ConvNeXtSize:
    """Width of the first stage, which doubles at each next one; blocks of each stage."""

    embed_dim: int
    depths: tuple[int, int, int, int]


CONVNEXT_SIZES = {
    "pico": ConvNeXtSize(embed_dim=16, depths=(1, 1, 1, 1)),
    "nano": ConvNeXtSize(embed_dim=48, depths=(2, 2, 6, 2)),
    "tiny": ConvNeXtSize(embed_dim=96, depths=(3, 3, 9, 3)),
    "small": ConvNeXtSize(embed_dim=96, depths=(3, 3, 27, 3)),
    "base": ConvNeXtSize(embed_dim=128, depths=(3, 3, 27, 3)),
}
"""Sizes by name: tiny, small and base are published; nano is timm's femto; pico is for tests."""


@dataclass(frozen=True, kw_only=True)
class VMambaSize:
    """Width of the first stage, blocks of each stage, drop path rate of the last block."""

    embed_dim: int
    depths: tuple[int, int, int, int]
    drop_path: float


VMAMBA_SIZES = {
    "nano": VMambaSize(embed_dim=48, depths=(1, 1, 2, 1), drop_path=0.1),
    "tiny": VMambaSize(embed_dim=96, depths=(2, 2, 4, 2), drop_path=0.2),
    "small": VMambaSize(embed_dim=96, depths=(2, 2, 15, 2), drop_path=0.3),
    "base": VMambaSize(embed_dim=128, depths=(2, 2, 15, 2), drop_path=0.6),
    "pico": VMambaSize(embed_dim=16, depths=(1, 1, 1, 1), drop_path=0.0),
}
"""Sizes by name: tiny, small and base are published; nano is ours; pico is for tests."""


@dataclass(frozen=True, kw_only=True)
class InternVideoSize:
    """Tokens' width, blocks, heads, hidden width of a block; heads and features of the pooling."""

    width: int
    depth: int
    heads: int
    hidden: int
    pool_heads: int = 16
    features: int = 768


INTERNVIDEO_SIZES = {
    "1b": InternVideoSize(width=1408, depth=40, heads=16, hidden=6144),
    "large": InternVideoSize(width=1024, depth=24, heads=16, hidden=4096),
    "base": InternVideoSize(width=768, depth=12, heads=12, hidden=3072),
    "small": InternVideoSize(width=384, depth=12, heads=6, hidden=1536),
    "nano": InternVideoSize(width=192, depth=10, heads=6, hidden=768, pool_heads=6),
    "pico": InternVideoSize(width=64, depth=3, heads=2, hidden=256, pool_heads=2, features=64),
}
"""Sizes by name: 1b to small are published; nano is ours; pico is for tests."""


class BitstreamLayout(NamedTuple):
    """Where the quantiser step stands in the vector of bitstream features."""

    width: int
    log2_step: int  # index of log2 of the quantiser step
    has_step: int  # index of the flag: 1 where the step is known
    is_known: int  # index of the flag: 1 where the stream was read
    step_origin: float  # log2 of the step that the vector has as 0


@dataclass(frozen=True, kw_only=True)
class CoarseToFineConfig:
    """The model's shape and its inputs, as stored in a model file.

    The pixels are a mosaic of `grid` x `grid` patches of `patch` px. `features` is the width of the
    frame features, `window` the side of SwinV2's attention windows. `figure_noise` is the noise in
    training on whatever is no pixel, in standard deviations (`FigureLayers`); 0: none, and no
    standardisation or dropout either. `has_tiles`: training compares each patch with the source.
    `has_figure_score`: a mean with the score of a `FigureNetwork`, which needs `has_stream`.
    `has_deep`: that network takes deep features (`vqatool.inputs.deep_features`) as well.
    `has_octaves`: it takes the detail that probes keep as well, which needs `has_probing`.
    `has_swing`: it takes the deviation of motion over the frames too, which grows with their number
    and so differs between a clip and a segment of it.

    Raises:
        ValueError: `size` is unknown, or `figure_noise` negative or not finite.
    """

    size: str = "nano"
    grid: int = 4
    patch: int = 32
    features: int = 128
    window: int = 8
    has_conv_stem: bool = True
    has_local_luma: bool = True
    has_bands: bool = True
    has_motion: bool = True
    has_stream: bool = True
    has_probing: bool = True
    has_spread: bool = True
    has_tiles: bool = True
    has_figure_score: bool = True
    has_deep: bool = True
    has_octaves: bool = True
    has_swing: bool = False
    figure_noise: float = 0.3
    fusion_layers: int = 2
    temporal_layers: int = 0

    @property
    def takes_deep(self) -> bool:
        """Whether deep features are a view: there is a network that takes them."""
        return self.has_deep and self.has_figure_score and self.has_stream

    @property
    def takes_octaves(self) -> bool:
        """Whether the view of probing has the detail that is kept."""
        return self.has_octaves and self.has_probing and self.has_figure_score and self.has_stream

    def __post_init__(self) -> None:
        if self.size not in SWIN_SIZES:
            raise ValueError(f"size {self.size!r} is none of {', '.join(SWIN_SIZES)}")
        if not 0 <= self.figure_noise < math.inf:
            raise ValueError(f"figure_noise is {self.figure_noise}: choose 0 or more, such as 0.3")


MASKS = {
    "video": ("sama", "sama-c", "sama-mix", "sama-swm", "sama-spm", "fragments"),
    "image": ("sama", "sama-spm", "fragments"),
}
"""The masks of the sampler for each kind of model."""


_PUBLISHED_GRID = {"video": 7, "image": 8}


@dataclass(frozen=True, kw_only=True)
class SamaConfig:
    """The model's shape and its input, as stored in a model file.

    `kind` is `video` or `image`. The canvas has `grid` x `grid` patches of `patch` px; grid 0 is
    the published one: 7 for videos, 8 for images. `mask`, `levels` and `is_antialiased` are the
    sampler's. `has_gate` and `has_scale_weights` are for videos, `window` is for images. A frame
    group has `burst_frames` frames, every `stride`-th of the video; for videos that is an even
    number, as two frames make a token. All groups of a clip form one canvas in time, as in
    FasterVQA, whose 8 groups of 4 frames cost a quarter of 4 clips of 32. Image models read the
    first frame of a group only.

    Raises:
        ValueError: a value is out of range.
    """

    kind: str = "video"
    size: str = "nano"
    grid: int = 0
    patch: int = 32
    mask: str = "sama"
    levels: int = 16
    is_antialiased: bool = False
    has_gate: bool = True
    has_scale_weights: bool = False
    window: int = 8
    has_conv_stem: bool = True
    has_local_luma: bool = True
    dropout: float = 0.5
    burst_frames: int = 4
    stride: int = 2

    def __post_init__(self) -> None:
        if not self.grid:  # a file stores the real number
            object.__setattr__(self, "grid", _PUBLISHED_GRID.get(self.kind, 7))
        if self.kind == "video" and self.burst_frames % TUBELET:
            raise ValueError(
                f"burst_frames is even, as two frames make a token, not {self.burst_frames}"
            )
        if self.size not in SWIN_SIZES:
            raise ValueError(f"size {self.size!r} is none of {', '.join(SWIN_SIZES)}")
        if self.kind not in MASKS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(MASKS)}")
        if self.mask not in MASKS[self.kind]:
            known = ", ".join(MASKS[self.kind])
            raise ValueError(f"mask {self.mask!r} of kind {self.kind} is none of {known}")


Activation = Literal["softplus", "relu"]


@dataclass(frozen=True, kw_only=True)
class ZoomConfig:
    """The model's shape and its inputs, as stored in a model file.

    A run is a frame group of `burst_frames` frames, every `stride`-th of the video; its first frame
    is the still. Stills are scaled to a short side of `still_short_px` and cropped to `crop_px`.
    Runs are scaled to a short side of `run_short_px` and cut into `grid` x `grid` patches of
    `patch` px, with tokens of `token_px`. The defaults suit a CPU; `PUBLISHED_ZOOM` has
    the paper's sizes.

    Raises:
        ValueError: a value is out of range.
    """

    size: str = "nano"
    still_short_px: int = 512
    crop_px: int = 224
    hidden: int = 384
    activation: Activation = "softplus"
    run_short_px: int = 480
    grid: int = 4
    patch: int = 48
    token_px: int = 6
    burst_frames: int = 4
    stride: int = 2
    has_conv_stem: bool = True
    has_local_luma: bool = True

    def __post_init__(self) -> None:
        known = [size for size in CONVNEXT_SIZES if size in SWIN_SIZES]
        if self.size not in known:
            raise ValueError(f"size {self.size!r} is none of {', '.join(known)}")
        if self.crop_px > self.still_short_px:
            raise ValueError(f"a crop of {self.crop_px} px of stills {self.still_short_px} px high")
        if self.has_conv_stem and self.token_px % 2:
            raise ValueError(f"token_px is even with has_conv_stem, not {self.token_px}")


PUBLISHED_ZOOM = ZoomConfig(
    size="tiny",
    crop_px=320,
    grid=7,
    burst_frames=32,
    has_conv_stem=False,
    has_local_luma=False,
)
"""The paper's sizes; it uses four runs of a video."""


@dataclass(frozen=True, kw_only=True)
class QMambaConfig:
    """The model's shape and its input, as stored in a model file.

    The input is a mosaic of `grid` x `grid` patches of `patch` px; one patch is the paper's crop.
    With local scan and gate the model is LQMamba, without both QMamba. `prompts` is the number of
    prompts of each stage's StylePrompt; 0: none.

    Raises:
        ValueError: a value is out of range.
    """

    size: str = "nano"
    grid: int = 1
    patch: int = 224
    has_local_luma: bool = True
    has_local_scan: bool = True
    has_gate: bool = True
    prompts: int = 0

    def __post_init__(self) -> None:
        if self.size not in VMAMBA_SIZES:
            raise ValueError(f"size {self.size!r} is none of {', '.join(VMAMBA_SIZES)}")
        if self.prompts < 0:
            raise ValueError(f"prompts must be 0 or more, got {self.prompts}")


TOKEN_PX = 14


@dataclass(frozen=True, kw_only=True)
class InternVideoConfig:
    """The model's shape and its input, as stored in a model file.

    The input is a mosaic of `grid` x `grid` patches of `patch` px; the sides are a multiple of 14.
    Positions are learned for `frames` frames of that side, and interpolated for other inputs.
    `drop_path` is the chance that a training step skips the last block's branches (0 for the
    first), `dropout` is the chance that it drops a feature in front of the head.

    Raises:
        ValueError: a value is out of range.
    """

    size: str = "nano"
    grid: int = 4
    patch: int = 42
    frames: int = 8
    has_conv_stem: bool = True
    has_local_luma: bool = True
    drop_path: float = 0.1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.size not in INTERNVIDEO_SIZES:
            raise ValueError(f"size {self.size!r} is none of {', '.join(INTERNVIDEO_SIZES)}")
        if self.side % TOKEN_PX:
            raise ValueError(f"{self.grid} patches of {self.patch} px do not divide by {TOKEN_PX}")
        if self.frames < 1:
            raise ValueError(f"frames must be 1 or more, got {self.frames}")

    @property
    def side(self) -> int:
        """Side of the view, px."""
        return self.grid * self.patch
