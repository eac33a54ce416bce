"""InternVideo2's video transformer with one score: teacher and student of arXiv 2502.19026.

"InternVQA: Advancing Compressed Video Quality Assessment with Distilling Large Foundation Model",
whose net is that of "InternVideo2" (arXiv 2403.15377). As published: tokens of 14 x 14 px of one
frame, attention over all of them, positions that start as sines and cosines and are learned,
attentive pooling to 768 features, a linear layer to the score that starts near zero. Ours: a score
of each frame, read by the same pooling from that frame's tokens alone (and the class token, so that
a picture has one score); sizes below the published ones; and, each with a switch, the convolutional
stem and the locally normalised luma channel, for nets that start from scratch.

Shapes: B videos, T frames, C channels, H height, W width, N tokens, D features.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.quality import PixelInput, Quality, QualityModel, in_float32

Grid = tuple[int, int, int]
"""Frames, rows and columns of tokens."""


class RMSNorm(nn.Module):
    """x over its root mean square, times a learned scale: no mean is taken off, nothing added."""

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> the same shape and type, computed in float32."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._eps)
        return (wide * scale * self.weight).to(x.dtype)


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch; small at first, so blocks start as nothing."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return x * self.gamma


class Attention(nn.Module):
    """Self-attention; queries and keys are normed over the full width, before heads are split."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(width), RMSNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        q_BND, k_BND, v_BND = self.qkv(x_BND).chunk(3, dim=-1)
        mixed_BND = attend(self.q_norm(q_BND), self.k_norm(k_BND), v_BND, self._heads)
        return cast(Tensor, self.proj(mixed_BND))


class Block(nn.Module):
    """Attention, then two layers a token; each branch normed before and scaled after.

    `drop_path` is the chance of a branch to be left out for a video in training.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, layer_scale: float, drop_path: float
    ) -> None:
        super().__init__()
        self._drop_path = drop_path
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attn = Attention(width, heads)
        layers = {
            "fc1": nn.Linear(width, hidden),
            "act": nn.GELU(),
            "fc2": nn.Linear(hidden, width),
        }
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](layers))
        self.ls1, self.ls2 = LayerScale(width, layer_scale), LayerScale(width, layer_scale)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x_BND = x_BND + self._kept(self.ls1(self.attn(self.norm1(x_BND))))
        return x_BND + self._kept(self.ls2(self.mlp(self.norm2(x_BND))))

    def _kept(self, branch_BND: Tensor) -> Tensor:
        if not self.training or not self._drop_path:
            return branch_BND
        keep = 1 - self._drop_path
        is_kept_B = torch.rand(len(branch_BND), 1, 1, device=branch_BND.device) < keep
        return branch_BND * is_kept_B / keep


class AttentivePool(nn.Module):
    """Tokens -> one feature: what their mean asks for; queries, keys and values have own norms."""

    def __init__(self, width: int, features: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(width) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, features)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, features)."""
        query_B1D = self.q(self.norm1_q(x_BND.mean(1, keepdim=True)))
        keys_BND, values_BND = self.k(self.norm1_k(x_BND)), self.v(self.norm1_v(x_BND))
        asked_B1D = attend(query_B1D, keys_BND, values_BND, self._heads)
        return cast(Tensor, self.proj(asked_B1D.squeeze(1)))


def attend(q_BMD: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int) -> Tensor:
    """Attention of M queries to N keys in `heads` parts of the width -> (B, M, D)."""
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q_BMD, k_BND, v_BND))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def sincos_positions(grid: Grid, width: int) -> Tensor:
    """(T * H * W, width) of sines and cosines: a quarter tells the frame, the rest column and row.

    `width` is a multiple of 16.
    """
    frame, row, column = torch.meshgrid(*(torch.arange(count) for count in grid), indexing="ij")
    place = width // 8 * 3
    waves = [_waves(frame, width - 2 * place), _waves(column, place), _waves(row, place)]
    return torch.cat(waves, dim=1)


def regridded(positions_ND: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Positions of one grid stretched to another: linear in time, bicubic in space."""
    if grid == wanted:
        return positions_ND
    maps_TDHW = positions_ND.view(*grid, -1).permute(0, 3, 1, 2)
    maps_TDHW = F.interpolate(maps_TDHW, wanted[1:], mode="bicubic", align_corners=False)
    lines_DNT = maps_TDHW.flatten(2).permute(1, 2, 0)
    lines_DNT = F.interpolate(lines_DNT, wanted[0], mode="linear", align_corners=False)
    return lines_DNT.permute(2, 1, 0).flatten(0, 1)


def interpolate_pos_embed(positions_1ND: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Positions (1, N, D) of the class token, which stays, and of a grid, stretched to another."""
    grid_ND = regridded(positions_1ND[0, 1:], grid, wanted)
    return torch.cat([positions_1ND[0, :1], grid_ND])[None]


def _waves(position: Tensor, width: int) -> Tensor:
    """(positions, width): sines, then cosines, of wavelengths from 2 pi to 10000 times that."""
    half = width // 2
    slowness = 10000 ** (torch.arange(half) / half)
    angle = position.flatten()[:, None] / slowness
    return torch.cat([angle.sin(), angle.cos()], dim=1)


TOKEN_PX = 14
_HEAD_START = 1e-3
_BLOCK_START = 1e-5
_MIDDLING = 0.6  # of labels


@dataclass(frozen=True, kw_only=True)
class InternVideoSize:
    """Width of tokens, blocks, attention heads, hidden width; heads and features of the pooling."""

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
"""Sizes by name: 1b to small as published, nano ours, pico to try things out."""


@dataclass(frozen=True, kw_only=True)
class InternVideoConfig:
    """Everything that makes the model's shape, and what it looks at; stored in its file.

    Its pixels are a mosaic of `grid` x `grid` patches of `patch` px, together a multiple of 14.
    Positions are learned for `frames` of that side, and stretched to what comes. `drop_path` is the
    chance of the last block's branches to be left out (the first has none), `dropout` that of each
    feature the score is read from.
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


def published_config(size: str) -> InternVideoConfig:
    """A size as its paper has it, for 8 frames of 224 px: the one that published weights fit."""
    return InternVideoConfig(
        size=size,
        grid=1,
        patch=224,
        has_conv_stem=False,
        has_local_luma=False,
    )


class InternVideo(QualityModel):
    """One view of pixels (B, T, 3, H, W), sides multiples of 14 -> Quality.

    Its features are the pooled ones, before the head's norm. `config` is what it was built from,
    `grid` what positions are learned for: frames, rows and columns of tokens.
    """

    def __init__(self, config: InternVideoConfig) -> None:
        super().__init__()
        size, side = INTERNVIDEO_SIZES[config.size], config.side // TOKEN_PX
        self.config = config
        self.feature_width = size.features
        self.grid = (config.frames, side, side)
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self.patch_embed = _patches(self._pixels.channels, size.width, config.has_conv_stem)
        self.cls_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.frames * side**2, size.width))
        last = max(1, size.depth - 1)
        self.blocks = nn.Sequential(
            *(
                Block(
                    size.width,
                    size.heads,
                    size.hidden,
                    layer_scale=_BLOCK_START,
                    drop_path=config.drop_path * index / last,
                )
                for index in range(size.depth)
            )
        )
        self.clip_projector = AttentivePool(size.width, size.features, size.pool_heads)
        self.fc_norm = nn.LayerNorm(size.features)
        self._dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(size.features, 1)
        self._start()

    def forward(self, *views: Tensor) -> Quality:
        """Pixels, float in [0, 1]."""
        (view_BTCHW,) = views
        tokens_BND = self.blocks(self._tokens(view_BTCHW))
        features_BD = self.clip_projector(tokens_BND).float()
        frames_MND = _by_frame(tokens_BND, view_BTCHW.shape[1])
        frames_BT = self._score(self.clip_projector(frames_MND)).view(view_BTCHW.shape[:2])
        return Quality(
            score_B=self._score(features_BD), features_BD=features_BD, frame_score_BT=frames_BT
        )

    def head_layers(self) -> Sequence[nn.Module]:
        """The head and the norm in front of it."""
        return [self.fc_norm, self.head]

    def last_layers(self) -> Sequence[nn.Module]:
        """The last block, the pooling, its norm and the head, as in arXiv 2502.19026."""
        return [self.blocks[-1], self.clip_projector, self.fc_norm, self.head]

    def init_from(self, known: QualityModel) -> None:
        """Load the weights of another one, its positions stretched to these frames and sides.

        Raises:
            RuntimeError: they are of another shape otherwise.
        """
        weights = known.state_dict()
        if isinstance(known, InternVideo):
            weights["pos_embed"] = interpolate_pos_embed(
                known.pos_embed.detach(), known.grid, self.grid
            )
        self.load_weights(weights)

    def _tokens(self, view_BTCHW: Tensor) -> Tensor:
        """(B, 1 + T * rows * columns, D): the class token, then frame by frame."""
        videos, frames, _, height, width = view_BTCHW.shape
        if height % TOKEN_PX or width % TOKEN_PX:
            raise ValueError(f"a view of {width}x{height} px does not divide by {TOKEN_PX}")
        maps_MDHW = self.patch_embed(self._pixels(view_BTCHW.flatten(0, 1)))
        tokens_BND = maps_MDHW.flatten(2).transpose(1, 2).reshape(videos, -1, maps_MDHW.shape[1])
        whole_BND = torch.cat([self.cls_token.expand(videos, -1, -1), tokens_BND], dim=1)
        wanted = (frames, height // TOKEN_PX, width // TOKEN_PX)
        return whole_BND + interpolate_pos_embed(self.pos_embed, self.grid, wanted)

    def _score(self, features_ND: Tensor) -> Tensor:
        normed_ND = self._dropout(self.fc_norm(features_ND.float()))
        return in_float32(self.head, normed_ND).squeeze(-1)

    @torch.no_grad()
    def _start(self) -> None:
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.pos_embed[0, 1:] = sincos_positions(self.grid, self.pos_embed.shape[2])
        self.head.weight.mul_(_HEAD_START)
        nn.init.constant_(self.head.bias, _MIDDLING)


def _patches(in_channels: int, width: int, has_conv_stem: bool) -> nn.Module:
    """Pictures -> maps of 1/14 of their side: one layer, or three of which two overlap."""
    if not has_conv_stem:
        return nn.Conv2d(in_channels, width, TOKEN_PX, TOKEN_PX)
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(32, width, TOKEN_PX // 2, TOKEN_PX // 2),
    )


def _by_frame(tokens_BND: Tensor, frames: int) -> Tensor:
    """(B * T, 1 + rows * columns, D): each frame's own tokens behind the class token."""
    own_MND = tokens_BND[:, 1:].reshape(len(tokens_BND) * frames, -1, tokens_BND.shape[2])
    class_M1D = tokens_BND[:, :1].repeat_interleave(frames, dim=0)
    return torch.cat([class_M1D, own_MND], dim=1)
