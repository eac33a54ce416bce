"""Swin over space and time, aware of fragments: the backbone of FAST-VQA, SAMA and Zoom-VQA.

"Video Swin Transformer" (arXiv 2106.13230) with the gated relative position biases of "FAST-VQA:
Efficient End-to-end Video Quality Assessment with Fragment Sampling" (arXiv 2207.02595, section
3.2): on a canvas of fragments neighbours may come from far apart, so a pair of tokens takes its
bias from one table inside a fragment and from another across fragments; the last stage, where a
token is a whole fragment, has one table. As published in all sizes and layers. Different: the gate
is 0 or 1 and knows the canvas' real grid; sizes that windows do not divide are filled up with
tokens that nobody sees; windows shrink with the input, as in FasterVQA. Ours, with a switch: the
convolutional stem, for nets that start from scratch.

Shapes: B videos, T frames, C channels, H height, W width, D features; inside T, H and W count
tokens, and a window has N of them.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.backbones import SwinSize
from vqatool.models.quality import in_float32

Size3 = tuple[int, int, int]
"""Tokens, frames or pixels along time, height and width."""


class WindowPartition(NamedTuple):
    """How windows lie on a map of `size`, none of them larger than it."""

    size: Size3
    window: Size3
    shift: Size3 = (0, 0, 0)

    @property
    def _counts(self) -> Size3:
        """Windows along each axis."""
        t, h, w = (-(-n // length) for n, length in zip(self.size, self.window, strict=True))
        return t, h, w

    @property
    def _missing(self) -> Size3:
        """Tokens along each axis that fill up the last windows."""
        t, h, w = (-n % length for n, length in zip(self.size, self.window, strict=True))
        return t, h, w

    def split(self, map_BTHWC: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B * V, N, C)."""
        if any(self._missing):
            t, h, w = self._missing
            map_BTHWC = F.pad(map_BTHWC, (0, 0, 0, w, 0, h, 0, t))
        if any(self.shift):
            map_BTHWC = map_BTHWC.roll([-by for by in self.shift], (1, 2, 3))
        (t, h, w), (depth, rows, columns) = self._counts, self.window
        blocks = map_BTHWC.reshape(-1, t, depth, h, rows, w, columns, map_BTHWC.shape[-1])
        return blocks.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(0, 3)

    def join(self, windows_MNC: Tensor) -> Tensor:
        """What `split` took apart, back in place."""
        blocks = windows_MNC.reshape(-1, *self._counts, *self.window, windows_MNC.shape[-1])
        map_BTHWC = blocks.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 2).flatten(2, 3).flatten(3, 4)
        if any(self.shift):
            map_BTHWC = map_BTHWC.roll(self.shift, (1, 2, 3))
        t, h, w = self.size
        return map_BTHWC[:, :t, :h, :w]

    def marks(self, mark_THW: Tensor) -> Tensor:
        """(V, N) of one number a token; tokens that only fill up have 0."""
        return self.split(mark_THW[None, ..., None]).squeeze(-1)

    @property
    def hides(self) -> bool:
        """Whether a window holds tokens that must not see each other."""
        return any(self.shift) or any(self._missing)


class Pairs(NamedTuple):
    """Of all pairs of tokens in a window."""

    offset_NN: Tensor  # number of their relative place, for a table of biases
    is_apart_VNN: Tensor  # whether they lie in different fragments of the canvas
    is_hidden_VNN: Tensor | None  # whether the one must not see the other; None: all do


def pairs(tiling: WindowPartition, table_window: Size3, grid: int, device: torch.device) -> Pairs:
    """The pairs of every window.

    Args:
        tiling: windows no larger than `table_window`.
        table_window: window that the table of biases is made for.
        grid: fragments a side of the canvas, in space; they do not end in time.
        device: of the result.
    """
    fragment_VN = tiling.marks(_fragments(tiling.size, grid, device))
    hidden = _differ(tiling.marks(_regions(tiling, device))) if tiling.hides else None
    offset_NN = _offsets(tiling.window, table_window, device)
    return Pairs(offset_NN, _differ(fragment_VN), hidden)


def _differ(mark_VN: Tensor) -> Tensor:
    return mark_VN[:, :, None] != mark_VN[:, None, :]


def _offsets(window: Size3, table_window: Size3, device: torch.device) -> Tensor:
    places_N3 = torch.cartesian_prod(*(torch.arange(n, device=device) for n in window))
    t, h, w = (
        (place_N[:, None] - place_N[None, :]) + length - 1
        for place_N, length in zip(places_N3.unbind(1), table_window, strict=True)
    )
    _, height, width = (2 * length - 1 for length in table_window)
    return (t * height + h) * width + w


def _fragments(size: Size3, grid: int, device: torch.device) -> Tensor:
    row_H, column_W = (torch.arange(n, device=device) * grid // n for n in size[1:])
    return (row_H[:, None] * grid + column_W[None, :]).expand(size)


def _regions(tiling: WindowPartition, device: torch.device) -> Tensor:
    """(T, H, W) 1 to 8: along each axis, tokens that rolling takes round the end are apart."""
    t, h, w = (
        (torch.arange(n, device=device) < by).long()
        for n, by in zip(tiling.size, tiling.shift, strict=True)
    )
    return 1 + 4 * t[:, None, None] + 2 * h[:, None] + w


class PatchStem3D(nn.Module):
    """Pixels -> one token a patch, as published; channels last."""

    def __init__(self, in_channels: int, width: int, patch: Size3) -> None:
        super().__init__()
        self._frames, *sides = patch
        side = (sides[0], sides[1])
        self._of_patch = nn.Conv2d(self._frames * in_channels, width, side, stride=side)
        self._norm = nn.LayerNorm(width)

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) of whole patches -> (B, T', H', W', width)."""
        frames_NCHW = pixels_BCTHW.transpose(1, 2).flatten(0, 1)
        return _tokens(self._of_patch, self._norm, frames_NCHW, len(pixels_BCTHW), self._frames)


class ConvStem3D(nn.Module):
    """Three convolutions to as many tokens, the first at full resolution; channels last."""

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
        """(B, C, T, H, W) of whole patches -> (B, T', H', W', width)."""
        maps_NCHW = self._of_frame(pixels_BCTHW.transpose(1, 2).flatten(0, 1))
        return _tokens(self._of_patch, self._norm, maps_NCHW, len(pixels_BCTHW), self._frames)


def _tokens(
    of_patch: nn.Module, norm: nn.Module, frames_NCHW: Tensor, videos: int, frames: int
) -> Tensor:
    """Maps of all frames -> (B, T', H', W', D), those of a patch's frames side by side."""
    channels, *sides = frames_NCHW.shape[1:]
    tokens_NDHW = of_patch(frames_NCHW.reshape(-1, frames * channels, *sides))
    return cast(Tensor, norm(tokens_NDHW.unflatten(0, (videos, -1)).movedim(2, -1)))


def filled(pixels_BCTHW: Tensor, patch: Size3) -> Tensor:
    """Frames and borders repeated up to whole patches."""
    t, h, w = (-n % length for n, length in zip(pixels_BCTHW.shape[2:], patch, strict=True))
    if not (t or h or w):
        return pixels_BCTHW
    return F.pad(pixels_BCTHW, (0, w, 0, h, 0, t), mode="replicate")


_WINDOW: Size3 = (8, 7, 7)
_TOKENS: Size3 = (16, 56, 56)  # of the input that this window was published for


class Swin3D(nn.Module):
    """Videos -> one map of features; 3 x 32 x 224 x 224 with patches (2, 4, 4) -> 16 x 7 x 7.

    Args:
        size: width, blocks and heads; `SWIN_SIZES["tiny"]` is the published one.
        in_channels: of the pixels.
        patch: frames, rows and columns that make one token.
        grid: fragments a side of the canvas, which the gate has to know.
        has_gate: whether pairs inside and across fragments have biases of their own.
        has_conv_stem: whether three convolutions make the tokens, not one.
        drop_path: chance that training skips the last block; the first is never skipped.
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
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.channels = size.embed_dim * 2 ** (len(size.depths) - 1)
        self._grid = grid
        stem = ConvStem3D if has_conv_stem else PatchStem3D
        self._stem = stem(in_channels, size.embed_dim, patch)
        skips = iter(torch.linspace(0, drop_path, sum(size.depths), device="cpu").tolist())
        last = len(size.depths) - 1
        self._stages = nn.ModuleList(
            Stage3D(
                size.embed_dim * 2**stage,
                size.heads[stage],
                [next(skips) for _ in range(size.depths[stage])],
                has_gate=has_gate and stage < last,
            )
            for stage in range(last + 1)
        )
        self._merges = nn.ModuleList(
            PatchMerging3D(size.embed_dim * 2**stage) for stage in range(last)
        )
        self._norm = nn.LayerNorm(self.channels)
        self.apply(_start)

    def last_layers(self) -> list[nn.Module]:
        """The last block and the norm behind it."""
        return [cast(Stage3D, self._stages[-1]).blocks[-1], self._norm]

    def forward(self, pixels_BTCHW: Tensor) -> Tensor:
        """(B, T, C, H, W), standardised -> (B, D, T / 2, H / 32, W / 32) with patches (2, 4, 4).

        Sides are rounded up; frames and borders are repeated where patches do not fit.
        """
        tokens = self._stem(filled(pixels_BTCHW.transpose(1, 2), self.patch))
        window = window_for(cast(Size3, tuple(tokens.shape[1:4])))
        for stage, merge in zip(self._stages, [*self._merges, self._norm], strict=True):
            tokens = merge(stage(tokens, window, self._grid))
        return cast(Tensor, tokens.permute(0, 4, 1, 2, 3))


class PatchMerging3D(nn.Module):
    """Squares of 2 x 2 tokens -> one of twice the width; time stays."""

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
    """Blocks of one width; every second one shifts its windows by half."""

    def __init__(self, width: int, heads: int, skips: list[float], *, has_gate: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block3D(width, heads, skip, has_gate=has_gate) for skip in skips
        )

    def forward(self, map_BTHWC: Tensor, window: Size3, grid: int) -> Tensor:
        """The map as it was in size; windows are cut to it and not shifted where they span it."""
        size = cast(Size3, tuple(map_BTHWC.shape[1:4]))
        still = WindowPartition(size, cast(Size3, tuple(map(min, window, size))))
        shift = tuple(m // 2 * (m < n) for m, n in zip(still.window, size, strict=True))
        partitions = (still, still._replace(shift=cast(Size3, shift)))[: len(self.blocks)]
        known = [(each, pairs(each, _WINDOW, grid, map_BTHWC.device)) for each in partitions]
        for number, block in enumerate(self.blocks):
            map_BTHWC = block(map_BTHWC, *known[number % 2])
        return map_BTHWC


class Block3D(nn.Module):
    """Attention inside windows, then two layers for each token, both added to what came in."""

    def __init__(self, width: int, heads: int, skip: float, *, has_gate: bool) -> None:
        super().__init__()
        self._skip = skip
        self._norm = nn.LayerNorm(width)
        self._attention = GatedAttention(width, heads, has_gate=has_gate)
        self._mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, map_BTHWC: Tensor, tiling: WindowPartition, known: Pairs) -> Tensor:
        """(B, T, H, W, C) -> the same shape."""
        seen = self._attention(tiling.split(self._norm(map_BTHWC)), known)
        map_BTHWC = map_BTHWC + self._dropped(tiling.join(seen))
        return map_BTHWC + self._dropped(self._mlp(map_BTHWC))

    def _dropped(self, change_BTHWC: Tensor) -> Tensor:
        """Stochastic depth: in training, nothing for some videos and more for the others."""
        if not self.training or not self._skip:
            return change_BTHWC
        kept = change_BTHWC.new_empty(len(change_BTHWC), 1, 1, 1, 1).bernoulli_(1 - self._skip)
        return change_BTHWC * kept / (1 - self._skip)


class GatedAttention(nn.Module):
    """Attention of the tokens of a window, with a bias for each relative place.

    With a gate a pair takes it from one of two tables: inside a fragment, across fragments.
    """

    def __init__(self, width: int, heads: int, *, has_gate: bool) -> None:
        super().__init__()
        self._qkv = nn.Linear(width, 3 * width)
        self._out = nn.Linear(width, width)
        self._across = nn.Parameter(_table(heads))
        self._inside = nn.Parameter(_table(heads)) if has_gate else None

    def forward(self, windows_MNC: Tensor, known: Pairs) -> Tensor:
        """Windows of several videos, those of each in the order of `known`."""
        bias_VHNN = self._bias(known)
        # windows of one bias are a batch, those of different ones stand beside the heads: so the
        # biases are never copied for each video
        V, heads, N, _ = bias_VHNN.shape
        qkv = self._qkv(windows_MNC).reshape(len(windows_MNC) // V, V, N, 3, heads, -1)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        bias = bias_VHNN.flatten(0, 1)[None].to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = mixed.reshape(-1, heads, N, mixed.shape[-1]).transpose(1, 2)
        return cast(Tensor, self._out(mixed.flatten(2)))

    def _bias(self, known: Pairs) -> Tensor:
        """(V, heads, N, N), or (1, heads, N, N) where all windows are alike."""
        bias_VHNN = self._across[:, known.offset_NN][None]
        if self._inside is not None:
            inside_1HNN = self._inside[:, known.offset_NN][None]
            bias_VHNN = torch.where(known.is_apart_VNN[:, None], bias_VHNN, inside_1HNN)
        if known.is_hidden_VNN is not None:
            bias_VHNN = bias_VHNN.masked_fill(known.is_hidden_VNN[:, None], -torch.inf)
        return bias_VHNN


def window_for(tokens: Size3) -> Size3:
    """The published window, smaller by as much as the input is, never larger.

    In time it spans two tokens at least: in a short clip none would hear of another otherwise.
    """
    t, h, w = (
        min(length, -(-length * n // usual))
        for length, n, usual in zip(_WINDOW, tokens, _TOKENS, strict=True)
    )
    return min(tokens[0], max(2, t)), h, w


def _table(heads: int) -> Tensor:
    t, h, w = (2 * length - 1 for length in _WINDOW)
    return nn.init.trunc_normal_(torch.empty(heads, t * h * w), std=0.02)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ScoreMap(nn.Module):
    """Features of tokens -> scores of tokens, by two layers, the same for every token."""

    def __init__(self, channels: int, *, hidden: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        self._hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(channels, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self._score = nn.Linear(hidden, 1)
        nn.init.constant_(self._score.bias, 0.6)  # a middling label

    def forward(self, map_BDTHW: Tensor) -> Tensor:
        """(B, D, T, H, W) -> (B, T, H, W)."""
        hidden_BTHWD: Tensor = self._hidden(map_BDTHW.movedim(1, -1))
        return in_float32(self._score, hidden_BTHWD).squeeze(-1)


def scores_of_frames(score_BT: Tensor, tubelet: int, frames: int) -> Tensor:
    """(B, tokens) -> (B, frames): each token's score for every frame that it was made of.

    Args:
        score_BT: a score for each token of time.
        tubelet: frames that make a token.
        frames: of the clip; the last token may have been filled up.
    """
    return score_BT.repeat_interleave(tubelet, dim=1)[:, :frames]
