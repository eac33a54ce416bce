"""The cost of a model: operations, time and memory."""

from pathlib import Path

import pytest
import torch

from ladder import Ffmpeg
from ladder.media.probe import probe
from tests.conftest import MakeVideo
from vqatool.evaluation.cost import CLIP_S, SCREEN, cost_of, macs_of, make_clip
from vqatool.inference.card import ModelCard
from vqatool.inference.model_file import Checkpoint, save_checkpoint
from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM
from vqatool.inputs.deep_features import NUM_DEEP_FEATURES
from vqatool.inputs.motion import NUM_MOTION_FEATURES
from vqatool.inputs.probing import NUM_PROBING_FEATURES
from vqatool.methods import Method, recipe_for
from vqatool.models.internvideo import InternVideo, published_config


@pytest.mark.parametrize(("size", "macs_g"), [("small", 82), ("base", 251), ("1b", 2541)])
def test_operations_agree_with_the_formula(size: str, macs_g: float) -> None:
    # from the formulas of the layers at 2049 tokens; our model adds a score of each frame
    with torch.device("meta"):
        model = InternVideo(published_config(size)).eval()
        macs = macs_of(model, [torch.empty(1, 8, 3, 224, 224)])
    assert macs / 1e9 == pytest.approx(macs_g, rel=0.03)


def test_fused_layers_are_counted() -> None:
    # torch has one fused operation for a transformer layer on a CPU
    shape = {"size": "pico", "features": 32, "temporal_layers": 1, "has_octaves": False}
    recipe = recipe_for(Method.COARSE_TO_FINE, shape)
    widths = (NUM_PROBING_FEATURES, NUM_DEEP_FEATURES, len(UNKNOWN_BITSTREAM))
    figures = ((1, 2, NUM_MOTION_FEATURES), *((1, width) for width in widths))
    shapes = ((1, 2, 3, 128, 128), *figures)
    macs = macs_of(recipe.build().eval(), [torch.zeros(shape) for shape in shapes])
    with torch.device("meta"):
        model = recipe.build().eval()
        assert macs_of(model, [torch.zeros(shape) for shape in shapes]) == macs
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.slow
def test_the_cost_of_a_model_file_is_measured(tmp_path: Path, source_video: Path) -> None:
    recipe = recipe_for(Method.Q_MAMBA, {"size": "pico", "patch": 64})
    card = ModelCard(
        method=Method.Q_MAMBA.value, shape=recipe.shape, clip_frames=2, label="vmaf_v0.6.1"
    )
    model, path = recipe.build().eval(), tmp_path / "model.safetensors"
    save_checkpoint(Checkpoint(card, model.state_dict()), path)
    cost = cost_of(path, source_video)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert cost.parameters_m == pytest.approx(parameters / 1e6)
    frame = macs_of(model, [torch.zeros(1, 1, 3, 64, 64)])
    assert cost.macs_g == pytest.approx(2 * frame / 1e9, rel=0.01)
    assert cost.clip_s > 0
    assert cost.peak_mb > 50


@pytest.mark.slow
def test_the_clip_has_its_fixed_length_and_size_for_any_video(
    tmp_path: Path, ffmpeg: Ffmpeg, make_video: MakeVideo
) -> None:
    # one frame per second, so that the encode is fast
    video = make_video("three-frames.mp4", "testsrc2=size=96x80:rate=1:duration=3")
    info = probe(make_clip(ffmpeg, video, tmp_path / "clip.mp4"))
    assert info.display_size == SCREEN
    assert info.duration_s == pytest.approx(CLIP_S, abs=1)
