from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn

from vqatool.inputs.deep_features import NETWORK
from vqatool.pretraining.fdim import folded_weights, network_file, stages


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
    network, luma = resnet(), torch.rand(2, 1, 64, 96)
    weights = folded_weights(prefixed(network.state_dict()))
    assert all(value.dtype == torch.float16 for value in weights.values())
    found = stages(luma, {name: value.float() for name, value in weights.items()})
    for ours, theirs in zip(found, network(luma.expand(-1, 3, -1, -1)), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().mean() < 0.005 * theirs.abs().mean()


def test_a_checkpoint_without_a_network_is_an_error() -> None:
    with pytest.raises(KeyError, match="0 ResNets"):
        folded_weights({"fc.weight": torch.ones(2)})


def session_of(path: Path) -> Any:
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


def interface(session: Any) -> list[tuple[str, str, int]]:
    return [
        (each.name, each.type, len(each.shape))
        for each in (*session.get_inputs(), *session.get_outputs())
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The file that is made of a checkpoint of `resnet`, loaded."""
    path = tmp_path_factory.mktemp("fdim") / "out.onnx"
    path.write_bytes(network_file(folded_weights(prefixed(resnet().state_dict())), "somewhere"))
    return session_of(path)


def test_the_file_is_like_the_packaged_one(written: Any) -> None:
    known = session_of(Path(__file__).parents[3] / "vqatool" / "weights" / NETWORK)
    assert interface(written) == interface(known)
    assert written.get_modelmeta().custom_metadata_map["origin"] == "somewhere"
    assert known.get_modelmeta().custom_metadata_map["origin"].startswith("ResNet-18 of FDIM")


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
def test_the_written_file_gives_means_and_deviations_of_the_maps(written: Any, count: int) -> None:
    shape = (count, 1, 128, 128)
    patches = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    (found,) = written.run(None, {"patches": patches})
    maps = resnet()(torch.from_numpy(patches).expand(-1, 3, -1, -1) / 255)
    expected = torch.cat(
        [part for m in maps for part in (m.mean((2, 3)), m.std((2, 3), unbiased=False))], 1
    )
    assert found.shape == (count, 2 * (64 + 128))
    error = np.abs(found - expected.numpy()).mean()
    assert error < 0.005 * expected.abs().mean()  # weights were in half precision
