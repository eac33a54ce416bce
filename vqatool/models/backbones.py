"""What the models use of timm: SwinV2 and ConvNeXt as pyramids of feature maps, and two layers.

"Swin Transformer V2: Scaling Up Capacity and Resolution" (arXiv 2111.09883) and "A ConvNet for the
2020s" (arXiv 2201.03545). Ours are the sizes below the published ones and the convolutional stem.
The stem keeps full resolution for one layer before its first stride. A network trained from scratch
learns compression artefacts with it, and does not with a stem of 4 x 4 px patches.

timm is imported when a model is built, not with this module: that takes a second, in which other
processes can already decode videos.

Shapes: B frames, C channels, H height, W width.
"""

from typing import cast

from torch import Tensor, nn

from vqatool.models.shapes import ConvNeXtSize, SwinSize


class SwinPyramid(nn.Module):
    """SwinV2's four stages as maps of 1/4, 1/8, 1/16 and 1/32 of the input's side.

    Args:
        size: width, blocks and heads.
        in_channels: of the pixels.
        side_px: side of the input that the windows are planned for; others are padded.
        window: side of the attention windows, tokens.
        has_conv_stem: whether three convolutions make the tokens, not one of 4 x 4 px patches.
        drop_path: chance that a training step skips the last block's branches; 0 at the first.
    """

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
        # the maps are read before the final norm, so its weights would never be trained
        self._swin.norm = nn.Identity()
        self.channels = [size.embed_dim * 2**stage for stage in range(4)]
        if has_conv_stem:
            stem = ConvStem(in_channels, size.embed_dim)
            self._swin.patch_embed = stem  # type: ignore[assignment]  # any NHWC stem fits

    @property
    def last_block(self) -> nn.Module:
        """The last block of the last stage."""
        return cast(nn.ModuleList, self._swin.layers[-1].get_submodule("blocks"))[-1]

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """(B, C, side, side) -> four maps (B, C_s, H_s, W_s), finest first."""
        maps = self._swin.forward_intermediates(
            pixels_BCHW, indices=4, output_fmt="NCHW", intermediates_only=True
        )
        return cast("list[Tensor]", maps)


class ConvNeXtPyramid(nn.Module):
    """ConvNeXt's four stages as maps of 1/4, 1/8, 1/16 and 1/32 of the input's sides.

    Args:
        size: width and blocks.
        in_channels: of the pixels.
        has_conv_stem: whether three convolutions make the first map, not one of 4 x 4 px patches.
        drop_path: chance that a training step skips the last block; 0 at the first.
        layer_scale: initial factor of each block's output.
    """

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
        from timm.models.convnext import ConvNeXt

        self.channels = [size.embed_dim * 2**stage for stage in range(4)]
        net = ConvNeXt(
            in_chans=in_channels,
            num_classes=0,
            depths=size.depths,
            dims=tuple(self.channels),
            ls_init_value=layer_scale,
            drop_path_rate=drop_path,
        )
        self._stem = _ConvStemNCHW(in_channels, size.embed_dim) if has_conv_stem else net.stem
        self._stages = net.stages  # the head would never be trained

    @property
    def last_block(self) -> nn.Module:
        """The last block of the last stage."""
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
    """Three convolutions to a quarter of the side, the first at full resolution; channels last."""

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


class _ConvStemNCHW(ConvStem):
    """`ConvStem` with channels first."""

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / 4, W / 4)."""
        return super().forward(pixels_BCHW).permute(0, 3, 1, 2)


def drop_path(rate: float) -> nn.Module:
    """Stochastic depth: in training, each sample's branch is 0 with chance `rate`, or scaled up."""
    from timm.layers.drop import DropPath

    return cast(nn.Module, DropPath(rate))


def layer_scale(width: int, init: float) -> nn.Module:
    """A learned factor for each channel of (..., width), its weight called `gamma`."""
    from timm.layers.layer_scale import LayerScale

    return cast(nn.Module, LayerScale(width, init))
