"""The network that deep features start from, from the checkpoint in FDIM's wheel.

    pip download fdim==0.2.1 --no-deps && unzip fdim-0.2.1-*.whl

`fdim/dist/checkpoints/dist_5.0.0.ckpt` is what `vqatool.pretraining.patches` takes.

Batch normalisation in evaluation is a factor and an offset of each channel, which the convolution
before it can have as its own.

Shapes: N patches, C channels, H height, W width.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.inference.export import traced
from vqatool.inputs.deep_features import CHANNELS, PATCH_PX

BLOCKS = 2
"""Of each stage."""

_MIN_VARIANCE = 1e-6
_EPSILON = 1e-5  # of torch's batch normalisation


def folded_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that `stages` takes, in half precision.

    Args:
        state: weights of a ResNet-18 with the names of torchvision, whatever stands before them.

    Raises:
        KeyError: one is missing.
    """
    stems = [name for name in state if name.endswith("conv1.weight") and "layer" not in name]
    if len(stems) != 1:
        raise KeyError(f"{len(stems)} ResNets in the checkpoint, need 1")
    prefix = stems[0].removesuffix("conv1.weight")
    pairs = {"stem": ("conv1", "bn1")}
    for stage in range(len(CHANNELS)):
        for block in range(BLOCKS):
            theirs, ours = f"layer{stage + 1}.{block}", f"{stage}.{block}"
            pairs[f"{ours}.first"] = (f"{theirs}.conv1", f"{theirs}.bn1")
            pairs[f"{ours}.second"] = (f"{theirs}.conv2", f"{theirs}.bn2")
    pairs["1.0.shortcut"] = ("layer2.0.downsample.0", "layer2.0.downsample.1")
    folded: dict[str, Tensor] = {}
    for ours, (convolution, normalisation) in pairs.items():
        mean, variance, weight, bias = (
            state[f"{prefix}{normalisation}.{name}"].double()
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        factor = weight / (variance + _EPSILON).sqrt()
        kernel = state[f"{prefix}{convolution}.weight"].double() * factor[:, None, None, None]
        if ours == "stem":  # of luma: all three channels are that
            kernel = kernel.sum(1, keepdim=True)
        folded[f"{ours}.weight"] = kernel.half()
        folded[f"{ours}.bias"] = (bias - mean * factor).half()
    return folded


class PatchFigures(nn.Module):
    """uint8 luma of patches (N, 1, H, W) -> what `vqatool.inputs.deep_features.NETWORK` gives."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = list(weights)
        for name, value in weights.items():
            self.register_parameter(_attribute(name), nn.Parameter(value.float()))

    def forward(self, *views: Tensor) -> dict[str, Tensor]:
        """Mean and deviation of each channel of the first stage, then of the second."""
        (patches_N1HW,) = views
        return {"figures": self.pooled(self.maps(patches_N1HW.float() / 255))}

    def maps(self, luma_N1HW: Tensor) -> list[Tensor]:
        """The maps of the stages, of luma in [0, 1]."""
        weights = {name: self.get_parameter(_attribute(name)) for name in self._names}
        return stages(luma_N1HW, weights)

    def pooled(self, maps: Sequence[Tensor]) -> Tensor:
        """Mean and deviation of each channel of maps, (N, C), float32."""
        figures: list[Tensor] = []
        for map_NCHW in maps:
            exact_NCHW = map_NCHW.float()
            variance_NC = exact_NCHW.var((2, 3), unbiased=False)
            # a flat patch has no variance, where the root has no slope
            figures += [exact_NCHW.mean((2, 3)), (variance_NC + _MIN_VARIANCE).sqrt()]
        return torch.cat(figures, dim=1)

    def weights(self) -> dict[str, Tensor]:
        """What it was made with, or what training made of it, in half precision."""
        return {
            name: self.get_parameter(_attribute(name)).detach().cpu().half() for name in self._names
        }


def _attribute(name: str) -> str:
    return name.replace(".", "_")


def stages(luma_N1HW: Tensor, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Luma in [0, 1], (N, 1, H, W) -> maps (N, 64, H / 4, W / 4) and (N, 128, H / 8, W / 8).

    Args:
        luma_N1HW: sides are multiples of 8.
        weights: `NAME.weight` and `NAME.bias` of `stem`, and of `STAGE.BLOCK.first` and `.second`,
            and of `1.0.shortcut`.
    """

    def convolve(map_NCHW: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(map_NCHW, weight, weights[f"{name}.bias"], stride, padding)

    map_NCHW = F.max_pool2d(convolve(luma_N1HW, "stem", 2).relu(), 3, 2, 1)
    maps = []
    for stage in range(len(CHANNELS)):
        for block in range(BLOCKS):
            name = f"{stage}.{block}"
            stride = 2 if stage and not block else 1
            shortcut = convolve(map_NCHW, f"{name}.shortcut", stride) if stride > 1 else map_NCHW
            inner_NCHW = convolve(map_NCHW, f"{name}.first", stride).relu()
            map_NCHW = (convolve(inner_NCHW, f"{name}.second") + shortcut).relu()
        maps.append(map_NCHW)
    return maps


def network_file(weights: Mapping[str, Tensor], origin: str) -> bytes:
    """The network with these weights, exported for ONNX Runtime."""
    patches = torch.zeros(2, 1, PATCH_PX, PATCH_PX, dtype=torch.uint8)
    program = traced(PatchFigures(weights), [patches], 1, "clips", ["patches"])
    program.model.metadata_props["origin"] = origin
    data: bytes = program.model_proto.SerializeToString()
    return data
