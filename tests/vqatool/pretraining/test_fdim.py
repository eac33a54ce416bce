import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from torch import Tensor, nn

from vqatool.inputs.deep_features import WEIGHTS, stages
from vqatool.pretraining.fdim import folded_weights


def resnet() -> nn.Module:
    torch.manual_seed(4)
    made = timm.create_model("resnet18", features_only=True, out_indices=(1, 2)).eval()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
    return made


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"backbone.{name}": value for name, value in state.items()} | {
        "fc.weight": torch.ones(2)
    }


@torch.no_grad()
def test_folded_weights_give_the_maps_of_the_whole_network() -> None:
    network, pixels = resnet(), torch.rand(2, 3, 64, 96)
    weights = folded_weights(prefixed(network.state_dict()))
    assert all(value.dtype == torch.float16 for value in weights.values())
    found = stages(pixels, {name: value.float() for name, value in weights.items()})
    for ours, theirs in zip(found, network(pixels), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().mean() < 0.005 * theirs.abs().mean()


def test_a_checkpoint_without_a_network_is_an_error() -> None:
    with pytest.raises(KeyError, match="0 ResNets"):
        folded_weights({"fc.weight": torch.ones(2)})


def test_the_program_writes_a_file_of_the_names_that_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": prefixed(resnet().state_dict())}, tmp_path / "fdim.ckpt")
    command = [sys.executable, "-m", "vqatool.pretraining.fdim", "fdim.ckpt", "-o", "out"]
    subprocess.run(command, check=True, cwd=tmp_path)
    packaged = Path(__file__).parents[3] / "vqatool" / "weights" / WEIGHTS
    with safe_open(tmp_path / "out", "pt") as made, safe_open(packaged, "pt") as known:
        assert set(made.keys()) == set(known.keys())
        assert made.metadata() == known.metadata()
