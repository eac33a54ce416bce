"""SwinV2 and ConvNeXt as pyramids of feature maps: the only file that imports timm.

"Swin Transformer V2: Scaling Up Capacity and Resolution" (arXiv 2111.09883) and "A ConvNet for the
2020s" (arXiv 2201.03545), by timm. Ours are the sizes below the published ones and the
convolutional stem, which keeps full resolution for one layer before it strides: from scratch it
learns compression damage where patches of 4 px at once do not.

Shapes: B frames, C channels, H height, W width.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SwinSize:
    """Width of the first stage, blocks and heads of each of the four stages."""

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
"""Sizes by name: tiny, small and base as published, nano and micro ours, pico to try things out."""


class SwinPyramid(nn.Module):
    """SwinV2's four stages as maps of 1/4, 1/8, 1/16 and 1/32 of the input's side."""

    def __init__(
        self,
        size: SwinSize,
        *,
        in_channels: int,
        side_px: int,
        window: int = 8,
        has_conv_stem: bool = True,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        # timm takes a second to load, in which processes may look at videos already
        from timm.models.swin_transformer_v2 import SwinTransformerV2

        self._swin = SwinTransformerV2(
            img_size=side_px,
            in_chans=in_channels,
            embed_dim=size.embed_dim,
            depths=size.depths,
            num_heads=size.heads,
            window_size=window,
            drop_path_rate=drop_path,
            num_classes=0,
        )
        # the maps are taken in front of it: left in, it would be weights that never learn
        self._swin.norm = nn.Identity()
        self.channels = [size.embed_dim * 2**stage for stage in range(4)]
        if has_conv_stem:
            stem = ConvStem(in_channels, size.embed_dim)
            self._swin.patch_embed = stem  # type: ignore[assignment]  # any NHWC stem will do

    @property
    def last_block(self) -> nn.Module:
        """What makes the coarsest map what it is."""
        return cast(nn.ModuleList, self._swin.layers[-1].get_submodule("blocks"))[-1]

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """(B, C, side, side) -> four maps (B, C_s, H_s, W_s), finest first."""
        maps = self._swin.forward_intermediates(
            pixels_BCHW, indices=4, output_fmt="NCHW", intermediates_only=True
        )
        return cast("list[Tensor]", maps)


@dataclass(frozen=True, kw_only=True)
class ConvNeXtSize:
    """Width of the first stage, which doubles at each next one, and blocks of the four stages."""

    embed_dim: int
    depths: tuple[int, int, int, int]


CONVNEXT_SIZES = {
    "pico": ConvNeXtSize(embed_dim=16, depths=(1, 1, 1, 1)),
    "nano": ConvNeXtSize(embed_dim=48, depths=(2, 2, 6, 2)),
    "tiny": ConvNeXtSize(embed_dim=96, depths=(3, 3, 9, 3)),
    "small": ConvNeXtSize(embed_dim=96, depths=(3, 3, 27, 3)),
    "base": ConvNeXtSize(embed_dim=128, depths=(3, 3, 27, 3)),
}
"""Sizes by name: tiny, small and base as published, nano as timm's femto, pico to try things."""


class ConvNeXtPyramid(nn.Module):
    """ConvNeXt's four stages as maps of 1/4, 1/8, 1/16 and 1/32 of the input's sides."""

    def __init__(
        self,
        size: ConvNeXtSize,
        *,
        in_channels: int,
        has_conv_stem: bool = True,
        drop_path: float = 0.1,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        from timm.models.convnext import ConvNeXt  # for the reason above

        self.channels = [size.embed_dim * 2**stage for stage in range(4)]
        net = ConvNeXt(
            in_chans=in_channels,
            num_classes=0,
            depths=size.depths,
            dims=tuple(self.channels),
            ls_init_value=layer_scale,
            drop_path_rate=drop_path,
        )
        self._stem = _FirstChannels(in_channels, size.embed_dim) if has_conv_stem else net.stem
        self._stages = net.stages  # without its head, which would be weights that never learn

    @property
    def last_block(self) -> nn.Module:
        """What makes the coarsest map what it is."""
        return cast(nn.Sequential, self._stages[-1].get_submodule("blocks"))[-1]

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """(B, C, H, W), sides of at least 32 -> four maps (B, C_s, H_s, W_s), finest first."""
        maps: list[Tensor] = []
        map_BCHW = self._stem(pixels_BCHW)
        for stage in self._stages:
            map_BCHW = stage(map_BCHW)
            maps.append(map_BCHW)
        return maps


class ConvStem(nn.Module):
    """Three convolutions to a quarter of the side, the first at full resolution; NHWC out."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = max(8, out_channels // 3)
        self._layers = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(half, 2 * half, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * half, out_channels, 3, stride=2, padding=1),
        )
        self._norm = nn.LayerNorm(out_channels)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H / 4, W / 4, out_channels)."""
        maps = self._layers(pixels_BCHW).permute(0, 2, 3, 1)
        return cast(Tensor, self._norm(maps))


class _FirstChannels(ConvStem):
    """The same, NCHW out."""

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / 4, W / 4)."""
        return super().forward(pixels_BCHW).permute(0, 3, 1, 2)
