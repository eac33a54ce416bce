"""What the model inside the package says of encodes of the demo's clip."""

from pathlib import Path

import numpy as np
import pytest

from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.probe import probe
from vqatool.cli.demo import demo_clip
from vqatool.inference.engine import Output
from vqatool.inference.loading import load_predictor
from vqatool.inference.model_file import default_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine
from vqatool.inputs.bitstream import BitstreamFeatures
from vqatool.inputs.clip import Array

pytestmark = pytest.mark.usefixtures("float32")

CRFS = (8, 18, 28, 38, 48)
DISPLAY = (1280, 720)
STEPS = [i for i, name in enumerate(BitstreamFeatures._fields) if name.startswith("step_")]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load_predictor(device="cpu")


@pytest.fixture(scope="module")
def encodes(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg) -> list[Path]:
    folder = tmp_path_factory.mktemp("encodes")
    source = ["-ss", "2", "-t", "0.6", "-i", str(demo_clip()), "-an", "-c:v", "libx264"]
    for crf in CRFS:
        run(ffmpeg, [*source, "-preset", "fast", "-crf", str(crf), str(folder / f"{crf}.mp4")])
    return [folder / f"{crf}.mp4" for crf in CRFS]


@pytest.fixture(scope="module")
def views(predictor: Predictor, encodes: list[Path]) -> list[list[Array]]:
    return [predictor.preprocessor.load_views(probe(path), DISPLAY) for path in encodes]


@pytest.fixture(scope="module")
def output(predictor: Predictor, views: list[list[Array]]) -> Output:
    """Of the encodes as they are."""
    return predictor.predict(views)


def test_near_lossless_encodes_are_near_the_top_and_the_others_in_order(output: Output) -> None:
    found = [100 * float(score) for score in output.score_B]
    assert found[0] > 90
    assert found == sorted(found, reverse=True)
    assert found[-1] < 60


@pytest.mark.parametrize("octaves", [0.5, 1.0, 2.0])
def test_a_coarser_quantiser_never_scores_higher_for_the_same_pixels(
    predictor: Predictor, views: list[list[Array]], output: Output, octaves: float
) -> None:
    steps = np.zeros(len(BitstreamFeatures._fields), np.float32)
    steps[STEPS] = octaves
    coarser = [[*others, stream + steps] for *others, stream in views]
    before, after = output.score_B, predictor.predict(coarser).score_B
    # near-lossless scores lie above 1 before they are clipped
    assert (after.clip(0, 1) < before.clip(0, 1) + 0.01).all()
    assert (after < before)[2:].all()


def test_both_packaged_files_are_one_model(
    predictor: Predictor, views: list[list[Array]], output: Output
) -> None:
    trainable = Predictor(TorchEngine(default_checkpoint(), "cpu"))
    assert (predictor.name, predictor.card) == (trainable.name, trainable.card)
    exported, original = output, trainable.predict(views)
    # half a thousandth of a point
    assert exported.score_B == pytest.approx(original.score_B, abs=5e-6)
    assert exported.spread_B == pytest.approx(original.spread_B, abs=1e-5)
    assert exported.distance_B == pytest.approx(original.distance_B, rel=1e-4)
    assert exported.outlier_B == pytest.approx(original.outlier_B, rel=1e-3)


@pytest.mark.parametrize("groups", [8, 5])
def test_the_exported_model_takes_any_number_of_clips_and_frames(
    views: list[list[Array]], groups: int
) -> None:
    shown = [[view[:groups] if view.ndim > 1 else view for view in clip] for clip in views[:3]]
    together = load_predictor(device="cpu", batch=3).predict(shown)
    apart = Predictor(TorchEngine(default_checkpoint(), "cpu")).predict(shown)
    assert together.score_B == pytest.approx(apart.score_B, abs=5e-6)
    assert together.frame_score_BT.shape == (3, groups)
