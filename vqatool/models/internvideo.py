"""InternVideo2's video transformer with a score: teacher and student of InternVQA.

"InternVQA: Advancing Compressed Video Quality Assessment with Distilling Large Foundation Model"
(arXiv 2502.19026), whose network is that of "InternVideo2: Scaling Foundation Models for Multimodal
Video Understanding" (arXiv 2403.15377).

As published: tokens of 14 x 14 px of one frame, attention over all of them, positions initialised
with sines and cosines and learned, RMS norms, queries and keys normalised over all heads at once, a
learned scale on each branch, attentive pooling to 768 features, a linear layer to the score that
starts near zero. The published names of weights are kept. Ours: a score of each frame, pooled from
that frame's tokens and the class token; the sizes nano and pico; and, each with a switch, the
convolutional stem and the locally normalised luma channel, for networks trained from scratch.

Shapes: B videos, T frames, C channels, H height, W width, N tokens, D width or features.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.backbones import drop_path, layer_scale
from vqatool.models.quality import PixelInput, Quality, QualityModel, in_float32
from vqatool.models.shapes import INTERNVIDEO_SIZES, TOKEN_PX, InternVideoConfig

_HEAD_SCALE = 1e-3  # of the head's initial weights
_LAYER_SCALE = 1e-5  # initial
_INITIAL_SCORE = 0.6  # a typical label

Grid = tuple[int, int, int]
"""Frames, rows and columns of tokens."""


def published_config(size: str) -> InternVideoConfig:
    """The config that a size's published weights fit: 8 frames of 224 px."""
    return InternVideoConfig(
        size=size,
        grid=1,
        patch=224,
        has_conv_stem=False,
        has_local_luma=False,
    )


class InternVideo(QualityModel):
    """One view of pixels (B, T, 3, H, W), sides multiples of 14 -> Quality.

    Its features are the pooled ones, before the head's norm. `config` is what it was built from;
    `grid` is what positions are learned for.
    """

    def __init__(self, config: InternVideoConfig) -> None:
        super().__init__()
        size, side = INTERNVIDEO_SIZES[config.size], config.side // TOKEN_PX
        self.config = config
        self.feature_width = size.features
        self.grid = (config.frames, side, side)
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self.patch_embed = _patch_embed(self._pixels.channels, size.width, config.has_conv_stem)
        self.cls_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.frames * side**2, size.width))
        last = max(1, size.depth - 1)
        self.blocks = nn.Sequential(
            *(
                Block(
                    size.width,
                    size.heads,
                    size.hidden,
                    initial_scale=_LAYER_SCALE,
                    drop_path_rate=config.drop_path * index / last,
                )
                for index in range(size.depth)
            )
        )
        self.clip_projector = AttentivePool(size.width, size.features, size.pool_heads)
        self.fc_norm = nn.LayerNorm(size.features)
        self._dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(size.features, 1)
        self._init_weights()

    def forward(self, *views: Tensor) -> Quality:
        """The Quality of one view.

        Raises:
            ValueError: its sides are no multiples of 14.
        """
        (view_BTCHW,) = views
        tokens_BND = self.blocks(self._tokens(view_BTCHW))
        features_BD = self.clip_projector(tokens_BND).float()
        frames_MND = _split_frames(tokens_BND, view_BTCHW.shape[1])
        frames_BT = self._score(self.clip_projector(frames_MND)).view(view_BTCHW.shape[:2])
        return Quality(
            score_B=self._score(features_BD), features_BD=features_BD, frame_score_BT=frames_BT
        )

    def head_layers(self) -> Sequence[nn.Module]:
        """The head and its norm."""
        return [self.fc_norm, self.head]

    def last_layers(self) -> Sequence[nn.Module]:
        """The last block, the pooling, the norm and the head, as in arXiv 2502.19026."""
        return [self.blocks[-1], self.clip_projector, self.fc_norm, self.head]

    def init_from(self, known: QualityModel) -> None:
        """Load the weights of another model; positions are interpolated to this model's grid.

        Raises:
            RuntimeError: other names or shapes differ.
        """
        weights = known.state_dict()
        if isinstance(known, InternVideo):
            weights["pos_embed"] = interpolate_pos_embed(
                known.pos_embed.detach(), known.grid, self.grid
            )
        self.load_weights(weights)

    def _tokens(self, view_BTCHW: Tensor) -> Tensor:
        """(B, 1 + T * rows * columns, D): the class token, then the tokens frame by frame."""
        videos, frames, _, height, width = view_BTCHW.shape
        if height % TOKEN_PX or width % TOKEN_PX:
            raise ValueError(f"a view of {width}x{height} px does not divide by {TOKEN_PX}")
        maps_MDHW = self.patch_embed(self._pixels(view_BTCHW.flatten(0, 1)))
        tokens_BND = maps_MDHW.flatten(2).transpose(1, 2).reshape(videos, -1, maps_MDHW.shape[1])
        tokens_BND = torch.cat([self.cls_token.expand(videos, -1, -1), tokens_BND], dim=1)
        grid = (frames, height // TOKEN_PX, width // TOKEN_PX)
        return tokens_BND + interpolate_pos_embed(self.pos_embed, self.grid, grid)

    def _score(self, features_ND: Tensor) -> Tensor:
        normed_ND = self._dropout(self.fc_norm(features_ND.float()))
        return in_float32(self.head, normed_ND).squeeze(-1)

    @torch.no_grad()
    def _init_weights(self) -> None:
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.pos_embed[0, 1:] = sincos_positions(self.grid, self.pos_embed.shape[2])
        self.head.weight.mul_(_HEAD_SCALE)
        nn.init.constant_(self.head.bias, _INITIAL_SCORE)


class RMSNorm(nn.RMSNorm):
    """torch's RMS norm, computed in float32 under autocast, where torch's own one warns."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> the same shape and type."""
        return super().forward(x.float()).to(x.dtype)


class Attention(nn.Module):
    """Self-attention; queries and keys are normalised over the full width, before the heads."""

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
    """Attention, then two layers for each token; each branch with a norm before and a scale after.

    `drop_path_rate` is the chance that a training step skips a branch for a video.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, initial_scale: float, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attn = Attention(width, heads)
        layers = {
            "fc1": nn.Linear(width, hidden),
            "act": nn.GELU(),
            "fc2": nn.Linear(hidden, width),
        }
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](layers))
        self.ls1, self.ls2 = layer_scale(width, initial_scale), layer_scale(width, initial_scale)
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x_BND = x_BND + self.drop_path(self.ls1(self.attn(self.norm1(x_BND))))
        return cast(Tensor, x_BND + self.drop_path(self.ls2(self.mlp(self.norm2(x_BND)))))


class AttentivePool(nn.Module):
    """Tokens -> one feature by attention, the query being the tokens' mean."""

    def __init__(self, width: int, features: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(width) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, features)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, features)."""
        query_B1D = self.q(self.norm1_q(x_BND.mean(1, keepdim=True)))
        key_BND, value_BND = self.k(self.norm1_k(x_BND)), self.v(self.norm1_v(x_BND))
        pooled_B1D = attend(query_B1D, key_BND, value_BND, self._heads)
        return cast(Tensor, self.proj(pooled_B1D.squeeze(1)))


def attend(q_BMD: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int) -> Tensor:
    """Attention of M queries to N keys -> (B, M, D); each head has D / `heads` of the width."""
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q_BMD, k_BND, v_BND))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def sincos_positions(grid: Grid, width: int) -> Tensor:
    """Positions (T * H * W, width) as sines and cosines: 1/4 of frames, 3/8 columns, 3/8 rows.

    `width` is a multiple of 16.
    """
    frame, row, column = torch.meshgrid(*(torch.arange(count) for count in grid), indexing="ij")
    part = width // 8 * 3
    waves = [_waves(frame, width - 2 * part), _waves(column, part), _waves(row, part)]
    return torch.cat(waves, dim=1)


def interpolate_pos_embed(pos_embed_1ND: Tensor, grid: Grid, new_grid: Grid) -> Tensor:
    """Positions (1, N, D) for another grid; the first, the class token's, is unchanged."""
    grid_ND = interpolate_grid(pos_embed_1ND[0, 1:], grid, new_grid)
    return torch.cat([pos_embed_1ND[0, :1], grid_ND])[None]


def interpolate_grid(positions_ND: Tensor, grid: Grid, new_grid: Grid) -> Tensor:
    """Positions (N, D) of `grid` for `new_grid`: linear in time, bicubic in space."""
    maps_TDHW = positions_ND.view(*grid, -1).permute(0, 3, 1, 2)
    if grid[1:] != new_grid[1:]:
        maps_TDHW = F.interpolate(maps_TDHW, new_grid[1:], mode="bicubic", align_corners=False)
    # any number of frames in the same way: an exported graph would keep a special case for all
    lines_DNT = maps_TDHW.flatten(2).permute(1, 2, 0)
    lines_DNT = F.interpolate(lines_DNT, new_grid[0], mode="linear", align_corners=False)
    return lines_DNT.permute(2, 1, 0).flatten(0, 1)


def _waves(position: Tensor, width: int) -> Tensor:
    """(positions, width): sines, then cosines, of wavelengths 2 pi to 10000 * 2 pi."""
    half = width // 2
    slowness = 10000 ** (torch.arange(half) / half)
    angle = position.flatten()[:, None] / slowness
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _patch_embed(in_channels: int, width: int, has_conv_stem: bool) -> nn.Module:
    """Pixels -> maps of 1/14 of the side: one layer, or three of which the first two overlap."""
    if not has_conv_stem:
        return nn.Conv2d(in_channels, width, TOKEN_PX, TOKEN_PX)
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(32, width, TOKEN_PX // 2, TOKEN_PX // 2),
    )


def _split_frames(tokens_BND: Tensor, frames: int) -> Tensor:
    """(B * T, 1 + rows * columns, D): the class token and each frame's own tokens."""
    own_MND = tokens_BND[:, 1:].reshape(tokens_BND.shape[0] * frames, -1, tokens_BND.shape[2])
    # not by repeat_interleave, which torch exports for the example's number of clips alone
    class_M1D = tokens_BND[:, :1].expand(-1, frames, -1).flatten(0, 1)[:, None]
    return torch.cat([class_M1D, own_MND], dim=1)
