"""The weights of deep features from the checkpoint in FDIM's wheel.

    pip download fdim==0.2.1 --no-deps && unzip fdim-0.2.1-*.whl
    python -m vqatool.pretraining.fdim fdim/dist/checkpoints/dist_5.0.0.ckpt -o FILE

Batch normalisation in evaluation is a factor and an offset of each channel, which the convolution
before it can have as its own.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vqatool.inputs.deep_features import BLOCKS, CHANNELS

_EPSILON = 1e-5  # of torch's batch normalisation


def folded_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that `vqatool.inputs.deep_features.stages` takes, in half precision.

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


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    weights = folded_weights(checkpoint.get("state_dict", checkpoint))
    origin = "ResNet-18 of FDIM 0.2.1, stem and stages 1 and 2; MIT, see FDIM-LICENSE.txt"
    save_file(weights, options.output, {"origin": origin})


if __name__ == "__main__":
    main()
