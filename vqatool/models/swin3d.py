"""FAST-VQA's network: a Swin over space and time that knows fragments, and its score head.

It is the backbone of SAMA and Zoom-VQA, too. "Video Swin Transformer" (arXiv 2106.13230) with the
gated relative position biases of "FAST-VQA: Efficient End-to-end Video Quality Assessment with
Fragment Sampling" (arXiv 2207.02595, section 3.2): on a canvas of fragments neighbours may come
from distant places, so a pair of tokens inside a fragment takes its bias from one table and a pair
across fragments from another; the last stage, where a token is a whole fragment, has one table.

As published: all sizes and layers. Different: the gate is 0 or 1 and knows the real grid of the
canvas; sizes that windows do not divide are padded with masked tokens; windows shrink with the
input, as in FasterVQA. Ours, with a switch: the convolutional stem, for networks trained from
scratch.

Shapes: B videos, T frames, C channels, H height, W width, D features. Inside the network T, H and W
count tokens; V windows of a map, N tokens of a window.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.backbones import drop_path
from vqatool.models.quality import in_float32
from vqatool.models.shapes import SwinSize

Size3 = tuple[int, int, int]
"""Tokens, frames or pixels along time, height and width."""

_WINDOW: Size3 = (8, 7, 7)
_PUBLISHED_TOKENS: Size3 = (16, 56, 56)  # of the input that the window was published for


class Swin3D(nn.Module):
    """Videos -> one map of features; 3 x 32 x 224 x 224 with patches (2, 4, 4) -> 16 x 7 x 7.

    Args:
        size: width, blocks and heads; `SWIN_SIZES["tiny"]` is the published one.
        in_channels: of the pixels.
        patch: frames, rows and columns of one token.
        grid: fragments a side of the canvas, for the gate.
        has_gate: whether pairs inside and across fragments have separate bias tables.
        has_conv_stem: whether three convolutions make the tokens, not one.
        drop_path_rate: chance that a training step skips the last block; 0 at the first.
    """

    def __init__(
        self,
        size: SwinSize,
        *,
        in_channels: int = 3,
        patch: Size3 = (2, 4, 4),
        grid: int = 7,
        has_gate: bool = True,
        has_conv_stem: bool = False,
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.channels = size.embed_dim * 2 ** (len(size.depths) - 1)
        self._grid = grid
        stem = ConvStem3D if has_conv_stem else PatchStem3D
        self._stem = stem(in_channels, size.embed_dim, patch)
        rates = iter(torch.linspace(0, drop_path_rate, sum(size.depths), device="cpu").tolist())
        last = len(size.depths) - 1
        self._stages = nn.ModuleList(
            Stage3D(
                size.embed_dim * 2**stage,
                size.heads[stage],
                [next(rates) for _ in range(size.depths[stage])],
                has_gate=has_gate and stage < last,
            )
            for stage in range(last + 1)
        )
        self._merges = nn.ModuleList(
            PatchMerging3D(size.embed_dim * 2**stage) for stage in range(last)
        )
        self._norm = nn.LayerNorm(self.channels)
        self.apply(_init_linear)

    def last_layers(self) -> list[nn.Module]:
        """The last block and the norm after it."""
        return [cast(Stage3D, self._stages[-1]).blocks[-1], self._norm]

    def forward(self, pixels_BTCHW: Tensor) -> Tensor:
        """(B, T, C, H, W), standardised -> (B, D, T / 2, H / 32, W / 32) with patches (2, 4, 4).

        Sizes are rounded up: the last frame and the borders are repeated to fill whole patches.
        """
        tokens = self._stem(pad_to_multiple(pixels_BTCHW.transpose(1, 2), self.patch))
        window = window_for(cast(Size3, tuple(tokens.shape[1:4])))
        for stage, merge in zip(self._stages, [*self._merges, self._norm], strict=True):
            tokens = merge(stage(tokens, window, self._grid))
        return cast(Tensor, tokens.permute(0, 4, 1, 2, 3))


class ScoreMap(nn.Module):
    """Features of tokens -> scores of tokens by two layers, the same for each token.

    It is FAST-VQA's intra-patch non-linear regression (section 3.3): scores are computed before
    anything is averaged.
    """

    def __init__(self, channels: int, *, hidden: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        self._hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(channels, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self._score = nn.Linear(hidden, 1)
        nn.init.constant_(self._score.bias, 0.6)  # a typical label

    def forward(self, map_BDTHW: Tensor) -> Tensor:
        """(B, D, T, H, W) -> (B, T, H, W), label's scale divided by 100."""
        hidden_BTHWD: Tensor = self._hidden(map_BDTHW.movedim(1, -1))
        return in_float32(self._score, hidden_BTHWD).squeeze(-1)


def scores_of_frames(score_BT: Tensor, tubelet: int, frames: int) -> Tensor:
    """(B, tokens) -> (B, frames): each token's score, for every frame of the token.

    Args:
        score_BT: a score for each token in time.
        tubelet: frames of a token.
        frames: of the clip; the last token may be padded.
    """
    return score_BT.repeat_interleave(tubelet, dim=1)[:, :frames]


# Stems: pixels -> tokens. Neither is a convolution over time. Patches do not overlap in time, so a
# layer over the frames of a patch side by side computes the same, and bfloat16 training of
# convolutions over time crashes some CPUs (oneDNN with AMX, as of torch 2.15).


class PatchStem3D(nn.Module):
    """The published stem: one token for each patch by one layer; channels last."""

    def __init__(self, in_channels: int, width: int, patch: Size3) -> None:
        super().__init__()
        self._frames, *sides = patch
        side = (sides[0], sides[1])
        self._of_patch = nn.Conv2d(self._frames * in_channels, width, side, stride=side)
        self._norm = nn.LayerNorm(width)

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) of whole patches -> (B, T', H', W', width), primed ones in tokens."""
        frames_NCHW = pixels_BCTHW.transpose(1, 2).flatten(0, 1)
        return _tokens(self._of_patch, self._norm, frames_NCHW, len(pixels_BCTHW), self._frames)


class ConvStem3D(nn.Module):
    """Our stem: as many tokens by three convolutions, the first at full resolution; see `ConvStem`.

    Raises:
        ValueError: the sides of `patch` are odd.
    """

    def __init__(self, in_channels: int, width: int, patch: Size3) -> None:
        super().__init__()
        self._frames, *sides = patch
        if any(side % 2 for side in sides):
            raise ValueError(f"sides of a patch must be even for the convolutions, got {patch}")
        stride = (sides[0] // 2, sides[1] // 2)
        half = max(8, width // 3)
        self._of_frame = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(half, 2 * half, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self._of_patch = nn.Conv2d(self._frames * 2 * half, width, 3, stride=stride, padding=1)
        self._norm = nn.LayerNorm(width)

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) of whole patches -> (B, T', H', W', width), primed ones in tokens."""
        maps_NCHW = self._of_frame(pixels_BCTHW.transpose(1, 2).flatten(0, 1))
        return _tokens(self._of_patch, self._norm, maps_NCHW, len(pixels_BCTHW), self._frames)


def _tokens(
    of_patch: nn.Module, norm: nn.Module, frames_NCHW: Tensor, videos: int, frames: int
) -> Tensor:
    """Maps of all frames -> (B, T', H', W', D); the channels of a patch's frames are joined."""
    channels, *sides = frames_NCHW.shape[1:]
    tokens_NDHW = of_patch(frames_NCHW.reshape(-1, frames * channels, *sides))
    return cast(Tensor, norm(tokens_NDHW.unflatten(0, (videos, -1)).movedim(2, -1)))


def pad_to_multiple(pixels_BCTHW: Tensor, patch: Size3) -> Tensor:
    """Frames and borders repeated until T, H and W are multiples of the patch."""
    t, h, w = (-n % length for n, length in zip(pixels_BCTHW.shape[2:], patch, strict=True))
    if not (t or h or w):
        return pixels_BCTHW
    return F.pad(pixels_BCTHW, (0, w, 0, h, 0, t), mode="replicate")


class PatchMerging3D(nn.Module):
    """Squares of 2 x 2 tokens -> one token of twice the width; time is unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._norm = nn.LayerNorm(4 * width)
        self._reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, map_BTHWC: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B, T, H / 2, W / 2, 2 C), sides rounded up."""
        height, width = map_BTHWC.shape[2:4]
        if height % 2 or width % 2:
            map_BTHWC = F.pad(map_BTHWC, (0, 0, 0, width % 2, 0, height % 2))
        B, T, H, W, C = map_BTHWC.shape
        squares = map_BTHWC.reshape(B, T, H // 2, 2, W // 2, 2, C).transpose(3, 4)
        return cast(Tensor, self._reduce(self._norm(squares.flatten(4))))


class Stage3D(nn.Module):
    """Blocks of one width; every second block shifts its windows by half a window."""

    def __init__(self, width: int, heads: int, rates: list[float], *, has_gate: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block3D(width, heads, rate, has_gate=has_gate) for rate in rates
        )

    def forward(self, map_BTHWC: Tensor, window: Size3, grid: int) -> Tensor:
        """The map in the same shape.

        Windows are clipped to the map, and are not shifted along an axis that they span.
        """
        size = cast(Size3, tuple(map_BTHWC.shape[1:4]))
        unshifted = WindowPartition(size, cast(Size3, tuple(map(min, window, size))))
        shift = tuple(m // 2 * (m < n) for m, n in zip(unshifted.window, size, strict=True))
        partitions = (unshifted, unshifted._replace(shift=cast(Size3, shift)))[: len(self.blocks)]
        relations = [token_pairs(each, _WINDOW, grid, map_BTHWC.device) for each in partitions]
        for number, block in enumerate(self.blocks):
            map_BTHWC = block(map_BTHWC, partitions[number % 2], relations[number % 2])
        return map_BTHWC


class Block3D(nn.Module):
    """Attention inside windows, then two layers for each token, both residual."""

    def __init__(self, width: int, heads: int, rate: float, *, has_gate: bool) -> None:
        super().__init__()
        self._norm = nn.LayerNorm(width)
        self._attention = GatedAttention(width, heads, has_gate=has_gate)
        self._mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self._drop_path = drop_path(rate)

    def forward(self, map_BTHWC: Tensor, partition: "WindowPartition", pairs: "Pairs") -> Tensor:
        """(B, T, H, W, C) -> the same shape."""
        mixed = self._attention(partition.split(self._norm(map_BTHWC)), pairs)
        map_BTHWC = map_BTHWC + self._drop_path(partition.join(mixed))
        return cast(Tensor, map_BTHWC + self._drop_path(self._mlp(map_BTHWC)))


class GatedAttention(nn.Module):
    """Attention among the tokens of a window, with a bias for each relative position.

    With a gate a pair takes it from one of two tables: inside a fragment, or across fragments.
    """

    def __init__(self, width: int, heads: int, *, has_gate: bool) -> None:
        super().__init__()
        self._qkv = nn.Linear(width, 3 * width)
        self._out = nn.Linear(width, width)
        self._across = nn.Parameter(_bias_table(heads))
        self._inside = nn.Parameter(_bias_table(heads)) if has_gate else None

    def forward(self, windows_MNC: Tensor, pairs: "Pairs") -> Tensor:
        """(B * V, N, C), the windows of each video in the order of `pairs` -> the same shape."""
        bias_VHNN = self._bias(pairs)
        # windows with one bias form the batch, the V different ones stand beside the heads: so the
        # biases are never copied for each video
        V, heads, N, _ = bias_VHNN.shape
        qkv = self._qkv(windows_MNC).reshape(len(windows_MNC) // V, V, N, 3, heads, -1)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        bias = bias_VHNN.flatten(0, 1)[None].to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = mixed.reshape(-1, heads, N, mixed.shape[-1]).transpose(1, 2)
        # in memory as it is read: the attention of an exported graph has another layout than this
        # one, for which flattening alone would be traced as a view
        mixed = mixed.clone(memory_format=torch.contiguous_format)
        return cast(Tensor, self._out(mixed.flatten(2)))

    def _bias(self, pairs: "Pairs") -> Tensor:
        """(V, heads, N, N), or (1, heads, N, N) where all windows are equal."""
        bias_VHNN = self._across[:, pairs.offset_NN][None]
        if self._inside is not None:
            inside_1HNN = self._inside[:, pairs.offset_NN][None]
            bias_VHNN = torch.where(pairs.is_across_VNN[:, None], bias_VHNN, inside_1HNN)
        if pairs.is_masked_VNN is not None:
            bias_VHNN = bias_VHNN.masked_fill(pairs.is_masked_VNN[:, None], -torch.inf)
        return bias_VHNN


class WindowPartition(NamedTuple):
    """Windows that tile a map of `size` tokens; no axis of `window` is longer than the map's.

    A shift rolls the map (Video Swin, section 3): some windows hold tokens of opposite borders.
    """

    size: Size3
    window: Size3
    shift: Size3 = (0, 0, 0)

    @property
    def _counts(self) -> Size3:
        """Windows along each axis."""
        t, h, w = (-(-n // length) for n, length in zip(self.size, self.window, strict=True))
        return t, h, w

    @property
    def _padding(self) -> Size3:
        """Tokens added along each axis to fill the last windows."""
        t, h, w = (-n % length for n, length in zip(self.size, self.window, strict=True))
        return t, h, w

    def split(self, map_BTHWC: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B * V, N, C); padding is 0."""
        if any(self._padding):
            t, h, w = self._padding
            map_BTHWC = F.pad(map_BTHWC, (0, 0, 0, w, 0, h, 0, t))
        if any(self.shift):
            map_BTHWC = map_BTHWC.roll([-by for by in self.shift], (1, 2, 3))
        (t, h, w), (depth, rows, columns) = self._counts, self.window
        blocks = map_BTHWC.reshape(-1, t, depth, h, rows, w, columns, map_BTHWC.shape[-1])
        return blocks.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(0, 3)

    def join(self, windows_MNC: Tensor) -> Tensor:
        """The inverse of `split`: (B * V, N, C) -> (B, T, H, W, C)."""
        blocks = windows_MNC.reshape(-1, *self._counts, *self.window, windows_MNC.shape[-1])
        map_BTHWC = blocks.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 2).flatten(2, 3).flatten(3, 4)
        if any(self.shift):
            map_BTHWC = map_BTHWC.roll(self.shift, (1, 2, 3))
        t, h, w = self.size
        return map_BTHWC[:, :t, :h, :w]

    def split_ids(self, id_THW: Tensor) -> Tensor:
        """A number for each token of the map -> (V, N); padding is 0."""
        return self.split(id_THW[None, ..., None]).squeeze(-1)

    @property
    def needs_mask(self) -> bool:
        """Whether a window holds tokens that must not attend to each other."""
        return any(self.shift) or any(self._padding)


class Pairs(NamedTuple):
    """The relations of all pairs of tokens in a window."""

    offset_NN: Tensor  # index of the relative position in a table of biases
    is_across_VNN: Tensor  # whether the tokens lie in different fragments of the canvas
    is_masked_VNN: Tensor | None  # whether attention is masked; None: nowhere


def token_pairs(
    partition: WindowPartition, table_window: Size3, grid: int, device: torch.device
) -> Pairs:
    """The relations of the tokens in every window.

    Args:
        partition: its windows are not larger than `table_window`.
        table_window: the window that the table of biases is made for.
        grid: fragments a side of the canvas; they do not end in time.
        device: of the result.
    """
    is_across_VNN = _differs(partition.split_ids(_fragment_ids(partition.size, grid, device)))
    masked = None
    if partition.needs_mask:
        masked = _differs(partition.split_ids(_region_ids(partition, device)))
    return Pairs(_offsets(partition.window, table_window, device), is_across_VNN, masked)


def _differs(id_VN: Tensor) -> Tensor:
    return id_VN[:, :, None] != id_VN[:, None, :]


def _offsets(window: Size3, table_window: Size3, device: torch.device) -> Tensor:
    positions_N3 = torch.cartesian_prod(*(torch.arange(n, device=device) for n in window))
    t, h, w = (
        (position_N[:, None] - position_N[None, :]) + length - 1
        for position_N, length in zip(positions_N3.unbind(1), table_window, strict=True)
    )
    _, height, width = (2 * length - 1 for length in table_window)
    return (t * height + h) * width + w


def _fragment_ids(size: Size3, grid: int, device: torch.device) -> Tensor:
    row_H, column_W = (torch.arange(n, device=device) * grid // n for n in size[1:])
    return (row_H[:, None] * grid + column_W[None, :]).expand(size)


def _region_ids(partition: WindowPartition, device: torch.device) -> Tensor:
    """(T, H, W) 1 to 8: along each axis, the tokens that rolling moves to the other end differ."""
    t, h, w = (
        (torch.arange(n, device=device) < by).long()
        for n, by in zip(partition.size, partition.shift, strict=True)
    )
    return 1 + 4 * t[:, None, None] + 2 * h[:, None] + w


def window_for(tokens: Size3) -> Size3:
    """The published window, scaled by the input's size over the published one, never larger.

    In time it spans at least two tokens: otherwise no token of a short clip would attend to another
    time.
    """
    t, h, w = (
        min(length, -(-length * n // published))
        for length, n, published in zip(_WINDOW, tokens, _PUBLISHED_TOKENS, strict=True)
    )
    return min(tokens[0], max(2, t)), h, w


def _bias_table(heads: int) -> Tensor:
    t, h, w = (2 * length - 1 for length in _WINDOW)
    return nn.init.trunc_normal_(torch.empty(heads, t * h * w), std=0.02)


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
