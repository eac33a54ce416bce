"""VMamba: a pyramid of maps mixed by selective scans along four paths.

"VMamba: Visual State Space Model" (arXiv 2401.10166), its second version: one state a channel, no
gate branch, an overlapping stem. Sizes as in "Q-Mamba: On First Exploration of Vision Mamba for
Image Quality Assessment" (arXiv 2406.09546), identified by its parameter counts. The local variant,
LQMamba, scans window by window and weights the channels of each path as "LocalMamba: Visual State
Space Model with Windowed Selective Scan" (arXiv 2403.09338) does, which gives its parameter counts,
too. The papers do not give the sides of the windows: these are ours, and so are the sizes nano and
pico.

Shapes: B pictures, C channels, H height, W width, D scanned channels, K scan paths, L steps,
N states, R rank of the step's projection.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.backbones import drop_path
from vqatool.models.scan import ScanInputs, fast_kernel, selective_scan
from vqatool.models.shapes import VMambaSize

PATHS = 4
"""Orders in which a map is scanned: rows, columns, and both from the end."""


def scan_paths(map_BHWC: Tensor, *, window: int = 0) -> Tensor:
    """The tokens in the orders of `PATHS`: VMamba's cross scan, or LocalMamba's local scan.

    Args:
        map_BHWC: of any size; zeros pad the windows at the right and at the bottom.
        window: side of the windows, which are read one after another, each in the path's order.
            0: the whole map is one window.

    Returns:
        (L, B, K, C); L is H * W, or more where windows were padded.
    """
    rows_LBC = _split_windows(map_BHWC, window)
    columns_LBC = _split_windows(map_BHWC.transpose(1, 2), window)
    return torch.stack([rows_LBC, columns_LBC, rows_LBC.flip(0), columns_LBC.flip(0)], dim=2)


def merge_paths(tokens_LBKC: Tensor, height: int, width: int, *, window: int = 0) -> Tensor:
    """The inverse of `scan_paths`: a map of each path (K, B, H, W, C), without padding."""
    rows, columns, rows_back, columns_back = tokens_LBKC.unbind(2)
    maps = [
        _join_windows(rows, height, width, window),
        _join_windows(columns, width, height, window).transpose(1, 2),
        _join_windows(rows_back.flip(0), height, width, window),
        _join_windows(columns_back.flip(0), width, height, window).transpose(1, 2),
    ]
    return torch.stack(maps)


def _split_windows(map_BHWC: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (L, B, C): windows row by row, the tokens of each row by row."""
    height, width = map_BHWC.shape[1:3]
    tall, wide = (window, window) if window else (height, width)
    padded = F.pad(map_BHWC, (0, 0, 0, -width % wide, 0, -height % tall))
    pictures, padded_height, padded_width, channels = padded.shape
    grid = (padded_height // tall, padded_width // wide)
    cells = padded.reshape(pictures, grid[0], tall, grid[1], wide, channels)
    return cells.permute(1, 3, 2, 4, 0, 5).flatten(0, 3)


def _join_windows(tokens_LBC: Tensor, height: int, width: int, window: int) -> Tensor:
    """(B, H, W, C): the inverse of `_split_windows`."""
    tall, wide = (window, window) if window else (height, width)
    grid = (-(-height // tall), -(-width // wide))
    cells = tokens_LBC.reshape(*grid, tall, wide, *tokens_LBC.shape[1:])
    padded = cells.permute(4, 0, 2, 1, 3, 5).flatten(3, 4).flatten(1, 2)
    return padded[:, :height, :width]


WHOLE_MAPS = (0, 0, 0, 0)
"""In place of windows: each stage scans its whole map."""
LOCAL_WINDOWS = (8, 4, 4, 2)
"""Sides of the windows of the four stages, tokens: 32, 32, 64 and 64 px of the picture."""

_STATES = 1
_MIN_STEP, _MAX_STEP = 1e-3, 0.1  # initial


class VMamba(nn.Module):
    """Pixels (B, C, H, W) of any size -> the last stage's map, 1/32 of the side, rounded up.

    Args:
        size: width, blocks and drop path rate.
        in_channels: of the pixels.
        windows: sides of the windows of the four stages; 0: the whole map.
        has_gate: whether the channels of each path are weighted, as in LocalMamba.
    """

    def __init__(
        self,
        size: VMambaSize,
        *,
        in_channels: int,
        windows: Sequence[int] = WHOLE_MAPS,
        has_gate: bool = False,
    ) -> None:
        super().__init__()
        self.channels = [size.embed_dim * 2**stage for stage in range(4)]
        self._stem = nn.Sequential(
            Downsample(in_channels, size.embed_dim // 2),
            nn.GELU(),
            Downsample(size.embed_dim // 2, size.embed_dim),
        )
        total, done = sum(size.depths), 0
        stages: list[nn.Module] = []
        for channels, depth, window in zip(self.channels, size.depths, windows, strict=True):
            first = Downsample(channels // 2, channels) if stages else nn.Identity()
            blocks = [
                ScanBlock(
                    channels,
                    window=window,
                    has_gate=has_gate,
                    drop_path_rate=size.drop_path * block / (total - 1),
                )
                for block in range(done, done + depth)
            ]
            stages.append(nn.Sequential(first, *blocks))
            done += depth
        self._stages = nn.ModuleList(stages)

    @property
    def last_block(self) -> nn.Module:
        """The last block of the last stage."""
        return cast(nn.Sequential, self._stages[-1])[-1]

    def forward(self, pixels_BCHW: Tensor, prompts: Sequence[nn.Module] = ()) -> Tensor:
        """The map (B, H / 32, W / 32, C); `prompts`, one for each stage or none, change its map."""
        map_BHWC = self._stem(pixels_BCHW.permute(0, 2, 3, 1))
        for index, stage in enumerate(self._stages):
            map_BHWC = stage(map_BHWC)
            if prompts:
                map_BHWC = prompts[index](map_BHWC)
        return cast(Tensor, map_BHWC)


class Downsample(nn.Module):
    """A map of half the side, rounded up: a 3 x 3 convolution of stride 2 and a norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self._conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self._norm = nn.LayerNorm(out_channels)

    def forward(self, map_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, out_channels)."""
        return cast(Tensor, self._norm(_convolved(self._conv, map_BHWC)))


class ScanBlock(nn.Module):
    """A scan, then two layers for each token, both residual."""

    def __init__(
        self, channels: int, *, window: int, has_gate: bool, drop_path_rate: float
    ) -> None:
        super().__init__()
        self._scan = nn.Sequential(
            nn.LayerNorm(channels), SelectiveScan2d(channels, window=window, has_gate=has_gate)
        )
        self._mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(),
            nn.Linear(4 * channels, channels),
        )  # fmt: skip
        self._drop_path = drop_path(drop_path_rate)

    def forward(self, map_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        map_BHWC = map_BHWC + self._drop_path(self._scan(map_BHWC))
        return cast(Tensor, map_BHWC + self._drop_path(self._mlp(map_BHWC)))


class SelectiveScan2d(nn.Module):
    """VMamba's SS2D: each token gets information from those before it on four paths.

    Step, input and output weights of the scan are computed from the token itself, for each path by
    other weights. Rates and skips are stored as vectors, because vectors have no weight decay.
    """

    def __init__(self, channels: int, *, window: int = 0, has_gate: bool = False) -> None:
        super().__init__()
        inner, rank = 2 * channels, math.ceil(channels / 16)
        self._window, self._rank, self._shape = window, rank, (PATHS, inner)
        self._in = nn.Linear(channels, inner, bias=False)
        self._conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self._read = nn.Parameter(_uniform(inner**-0.5, PATHS, rank + 2 * _STATES, inner))
        self._step = nn.Parameter(_uniform(rank**-0.5, PATHS, inner, rank))
        self._step_bias = nn.Parameter(_step_biases(PATHS * inner))
        states = torch.arange(1.0, _STATES + 1).repeat(PATHS * inner)
        self._log_rate = nn.Parameter(states.log())
        self._skip = nn.Parameter(torch.ones(PATHS * inner))
        self._gate = ChannelGate(inner) if has_gate else nn.Identity()
        self._norm = nn.LayerNorm(inner)
        self._out = nn.Linear(inner, channels, bias=False)

    def forward(self, map_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        height, width = map_BHWC.shape[1:3]
        map_BHWD = F.silu(_convolved(self._conv, self._in(map_BHWC)))
        u_LBKD = scan_paths(map_BHWD, window=self._window)
        y_LBKD = selective_scan(self._scan_inputs(u_LBKD), kernel=fast_kernel(u_LBKD.device))
        maps_KBHWD = self._gate(merge_paths(y_LBKD, height, width, window=self._window))
        return cast(Tensor, self._out(self._norm(maps_KBHWD.sum(0))))

    def _scan_inputs(self, u_LBKD: Tensor) -> ScanInputs:
        """The tokens and the scan's parameters that are computed from them."""
        read_LBKQ = torch.einsum("lbkd,kqd->lbkq", u_LBKD, self._read)
        widths = [self._rank, _STATES, _STATES]
        step_LBKR, b_LBKN, c_LBKN = torch.split(read_LBKQ, widths, dim=-1)
        step_LBKD = torch.einsum("lbkr,kdr->lbkd", step_LBKR, self._step)
        return ScanInputs(
            u_LBKD=u_LBKD,
            step_LBKD=step_LBKD + self._step_bias.view(self._shape),
            b_LBKN=b_LBKN,
            c_LBKN=c_LBKN,
            a_KDN=-self._log_rate.exp().view(*self._shape, _STATES),
            d_KD=self._skip.view(self._shape),
        )


class ChannelGate(nn.Module):
    """LocalMamba's gate: each channel is weighted, 0 to 1, by a function of all channels' means."""

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        self._norm = nn.LayerNorm(channels)
        self._weights = nn.Sequential(
            nn.Linear(channels, channels // reduction), nn.GELU(),
            nn.Linear(channels // reduction, channels), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, maps_HWC: Tensor) -> Tensor:
        """(..., H, W, C) -> the same shape."""
        mean = self._norm(maps_HWC).mean((-3, -2), keepdim=True)
        return cast(Tensor, maps_HWC * self._weights(mean))


def _convolved(conv: nn.Conv2d, map_BHWC: Tensor) -> Tensor:
    return cast(Tensor, conv(map_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def _uniform(bound: float, *shape: int) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound)


def _step_biases(count: int) -> Tensor:
    """Biases whose softplus, the initial steps, is log-uniform in `_MIN_STEP` to `_MAX_STEP`."""
    log_steps = torch.empty(count).uniform_(math.log(_MIN_STEP), math.log(_MAX_STEP))
    steps = log_steps.exp()
    return steps + (-torch.expm1(-steps)).log()
