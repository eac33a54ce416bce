"""The network of deep features from the checkpoint in FDIM's wheel.

    pip download fdim==0.2.1 --no-deps && unzip fdim-0.2.1-*.whl
    python -m vqatool.pretraining.fdim fdim/dist/checkpoints/dist_5.0.0.ckpt -o FILE

Batch normalisation in evaluation is a factor and an offset of each channel, which the convolution
before it can have as its own.

Shapes: N patches, C channels, H height, W width.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladder.storage import atomic_write
from vqatool.inference.export import traced
from vqatool.inputs.deep_features import CHANNELS, PATCH_PX

BLOCKS = 2
"""Of each stage."""

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
        folded[f"{ours}.weight"] = kernel.half()
        folded[f"{ours}.bias"] = (bias - mean * factor).half()
    return folded


class PatchFigures(nn.Module):
    """uint8 patches (N, 3, H, W) -> what `vqatool.inputs.deep_features.NETWORK` gives."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = list(weights)
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "_"), value.float())

    def forward(self, *views: Tensor) -> dict[str, Tensor]:
        """Mean and deviation of each channel of the first stage, then of the second."""
        (patches_NCHW,) = views
        weights = {name: self.get_buffer(name.replace(".", "_")) for name in self._names}
        figures = [
            each_NC
            for map_NCHW in stages(patches_NCHW.float() / 255, weights)
            for each_NC in (map_NCHW.mean((2, 3)), map_NCHW.std((2, 3)))
        ]
        return {"figures": torch.cat(figures, dim=1)}


def stages(pixels_NCHW: Tensor, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """RGB in [0, 1] -> maps (N, 64, H / 4, W / 4) and (N, 128, H / 8, W / 8).

    Args:
        pixels_NCHW: sides are multiples of 8.
        weights: `NAME.weight` and `NAME.bias` of `stem`, and of `STAGE.BLOCK.first` and `.second`,
            and of `1.0.shortcut`.
    """

    def convolve(map_NCHW: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(map_NCHW, weight, weights[f"{name}.bias"], stride, padding)

    map_NCHW = F.max_pool2d(convolve(pixels_NCHW, "stem", 2).relu(), 3, 2, 1)
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


def network_file(weights: Mapping[str, Tensor]) -> bytes:
    """The network with these weights, exported for ONNX Runtime."""
    patches = torch.zeros(2, 3, PATCH_PX, PATCH_PX, dtype=torch.uint8)
    program = traced(PatchFigures(weights), [patches], 1, "clips", ["patches"])
    origin = "ResNet-18 of FDIM 0.2.1, stem and stages 1 and 2; MIT, see FDIM-LICENSE.txt"
    program.model.metadata_props["origin"] = origin
    data: bytes = program.model_proto.SerializeToString()
    return data


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    weights = folded_weights(checkpoint.get("state_dict", checkpoint))
    with atomic_write(options.output) as file:
        file.write(network_file(weights))


if __name__ == "__main__":
    main()
