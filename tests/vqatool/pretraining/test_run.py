import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ladder.media.stills import read_picture
from tests.vqatool.conftest import BRIEF_SHAPE
from tests.vqatool.pretraining.test_picture_sets import stills  # noqa: F401 - a fixture
from tests.vqatool.program import vqatool
from tests.vqatool.shapes import SMALL as SHAPES
from vqatool.errors import TrainingDataError
from vqatool.inference.model_file import load_checkpoint, save_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine
from vqatool.inputs.clip import Array, Clip
from vqatool.methods import Method
from vqatool.pretraining.picture_sets import PictureSet
from vqatool.pretraining.run import TILE_PX, PretrainConfig, pretrain
from vqatool.training.step import Progress


def noisy_set(name: str, *, is_vmaf_scale: bool) -> PictureSet:
    """12 contents (patterns) at four levels of noise."""
    random = np.random.default_rng(0)
    pictures, qualities, contents = [], [], []
    for content in range(12):
        base = random.integers(60, 200) + 30 * np.sin(np.arange(TILE_PX) / random.uniform(4, 20))
        for level in range(4):
            noise = random.normal(0, 2 + 12 * level, (3, TILE_PX, TILE_PX))
            pictures.append((base + noise).clip(0, 255).astype(np.uint8))
            qualities.append(1 - level / 4)
            contents.append(str(content))
    return PictureSet(
        name=name,
        is_vmaf_scale=is_vmaf_scale,
        qualities=tuple(qualities),
        contents=tuple(contents),
        sides=tuple("test" if int(content) < 3 else "train" for content in contents),
        pixels=lambda index: pictures[index],
    )


# without the figures of a second encode, which would be a third of the time
SHAPE = BRIEF_SHAPE | {"has_conv_stem": False, "has_probing": False}
SMALL = PretrainConfig(shape=SHAPE, steps=20, batch=12, lr=2e-3, ema_decay=0.8)


@pytest.mark.slow
def test_pretraining_learns_distortions_of_unseen_contents(tmp_path: Path) -> None:
    history: list[Progress] = []
    sets = [noisy_set("synthetic", is_vmaf_scale=True)]
    checkpoint = pretrain(sets, SMALL, device="cpu", on_progress=history.append)
    assert checkpoint.card.validation["srcc"] > 0.9
    assert checkpoint.card.validation["count"] == 3 * 4
    assert checkpoint.card.training["test_srcc"] == {
        "synthetic": checkpoint.card.validation["srcc"]
    }
    assert [progress.step for progress in history] == list(range(1, 21))
    assert not history[2].metrics
    assert set(history[-1].metrics) == {"synthetic"}
    assert set(history[0].terms) == {"quality", "plcc", "rank in set", "rank in content"}
    save_checkpoint(checkpoint, tmp_path / "spatial.safetensors")
    stored = Predictor(TorchEngine(load_checkpoint(tmp_path / "spatial.safetensors"), "cpu"))
    pictures = [sets[0].pixels(index)[None] for index in range(4)]
    clips = [stored.preprocessor.preprocess(Clip(picture)) for picture in pictures]
    scores = stored.predict(clips).score_B.tolist()
    assert scores == sorted(scores, reverse=True)


@pytest.mark.slow
def test_a_seed_reproduces_the_weights_and_init_starts_from_them() -> None:
    sets = [noisy_set("synthetic", is_vmaf_scale=True), noisy_set("b", is_vmaf_scale=False)]
    short = dataclasses.replace(SMALL, steps=3)
    first, again = (pretrain(sets, short, device="cpu") for _ in range(2))
    other = pretrain(sets, dataclasses.replace(short, seed=1), device="cpu")
    assert all(torch.equal(first.weights[key], again.weights[key]) for key in first.weights)
    assert any(not torch.equal(first.weights[key], other.weights[key]) for key in first.weights)
    still = dataclasses.replace(short, steps=1, lr=1e-12)
    continued = pretrain(sets, still, init=first, device="cpu")
    trained = dict(first.model().named_parameters())  # the means of figures are of the new data
    assert all(torch.allclose(first.weights[k], continued.weights[k], atol=1e-3) for k in trained)


@pytest.mark.slow
def test_only_vmaf_sets_the_level_of_the_scores() -> None:
    synthetic, opinions = (
        noisy_set("synthetic", is_vmaf_scale=True),
        noisy_set("b", is_vmaf_scale=False),
    )
    high = dataclasses.replace(opinions, qualities=tuple(0.9 + q / 10 for q in opinions.qualities))
    checkpoint = pretrain([high, synthetic], SMALL, device="cpu")
    predictor = Predictor(TorchEngine(checkpoint, "cpu"))
    pictures = [synthetic.pixels(index)[None] for index in range(12)]
    clips = [predictor.preprocessor.preprocess(Clip(picture)) for picture in pictures]
    # the mean label of the opinions is 96, that of the synthetic set 62
    assert 100 * float(predictor.predict(clips).score_B.mean()) < 80
    assert set(checkpoint.card.training["test_srcc"]) == {"b", "synthetic"}


def test_pretraining_does_not_wait_for_features_that_no_step_learns_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(patches: Array) -> Array:
        raise AssertionError("deep features were made")

    monkeypatch.setattr("vqatool.methods.coarse_to_fine.features_of_patches", refuse)
    sets = [noisy_set("synthetic", is_vmaf_scale=True)]
    assert pretrain(sets, dataclasses.replace(SMALL, steps=1), device="cpu").card.shape["has_deep"]


def test_a_time_limit_ends_the_training_early() -> None:
    sets = [noisy_set("synthetic", is_vmaf_scale=True)]
    checkpoint = pretrain(sets, dataclasses.replace(SMALL, max_hours=1e-4), device="cpu")
    assert 0 < checkpoint.card.training["steps_done"] < 20


def test_sets_that_cannot_share_a_batch_are_refused() -> None:
    synthetic = noisy_set("synthetic", is_vmaf_scale=True)
    with pytest.raises(TrainingDataError, match="cannot share a batch of 3"):
        pretrain([synthetic, synthetic], dataclasses.replace(SMALL, batch=3))
    with pytest.raises(TrainingDataError, match="the same name in synthetic, synthetic"):
        pretrain([synthetic, synthetic], SMALL)


@pytest.mark.parametrize("method", Method)
def test_any_method_learns_from_pictures(method: Method) -> None:
    config = PretrainConfig(method=method.value, shape=SHAPES[method], steps=2, batch=4)
    done = pretrain([noisy_set("synthetic", is_vmaf_scale=True)], config, device="cpu")
    assert done.card.method == method.value
    assert set(done.card.training["test_srcc"]) == {"synthetic"}


@pytest.mark.slow
def test_every_branch_of_a_model_learns_the_level_of_the_scores() -> None:
    # with a loss of only their sum, the branch scores went to 72 and -71.5
    synthetic = noisy_set("synthetic", is_vmaf_scale=True)
    config = dataclasses.replace(
        SMALL, method=Method.ZOOM_VQA.value, shape=SHAPES[Method.ZOOM_VQA], steps=20
    )
    predictor = Predictor(TorchEngine(pretrain([synthetic], config, device="cpu"), "cpu"))
    pictures = range(24)
    qualities = [
        predictor.predict([predictor.preprocessor.preprocess(Clip(synthetic.pixels(i)[None]))])
        for i in pictures
    ]
    labels = np.array([synthetic.qualities[i] for i in pictures])
    for branch in (0, 1):
        scores = [float(quality.branches[branch].score_B[0]) for quality in qualities]
        assert abs(np.mean(scores - labels)) < 0.25


@pytest.mark.slow
def test_the_command_makes_a_model_that_train_can_start_from(
    tmp_path: Path,
    stills: Path,  # noqa: F811 - pytest's way of asking for it
    work_folder: Path,
) -> None:
    rated = tmp_path / "rated"
    rated.mkdir()
    for number in (0, 2, 4):
        (rated / f"{number}.png").write_bytes((stills / f"bunny{number}.png").read_bytes())
    lines = ["path,mos,split", "0.png,1,train", "2.png,2,train", "4.png,3,test", "0.png,1,test"]
    (rated / "scores.csv").write_text("\n".join(lines))
    assert read_picture(rated / "0.png").shape == (136, 240, 3)
    out = tmp_path / "spatial.safetensors"
    data = ["--data", f"opinions={rated}", "--data", f"again={rated / 'scores.csv'}"]
    arguments = [
        "--size",
        "pico",
        "--shape",
        "has_conv_stem=false",
        "--shape",
        "has_probing=false",
        "--steps",
        2,
        "--batch",
        4,
        "--device",
        "cpu",
    ]
    done = vqatool("pretrain", *data, *arguments, "-o", out)
    assert done.exit_code == 0, done.output
    assert "SRCC on held-out pictures: opinions" in done.stderr
    card = load_checkpoint(out).card
    assert (card.shape["size"], card.shape["has_conv_stem"]) == ("pico", False)
    assert card.clip_frames == 1
    model = tmp_path / "m.safetensors"
    trained = ["train", work_folder, "--init", out, "--epochs", 1, "--clip-frames", 2]
    assert vqatool(*trained, "-o", model, "--no-export").exit_code == 0
    assert load_checkpoint(model).card.shape["size"] == "pico"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "koniq"], "NAME=FOLDER"),
        (["--data", "koniq=nowhere"], "nowhere does not exist"),
        ([], "--data"),
        (["--data", "koniq=."], "no folder 1024x768"),
    ],
)
def test_wrong_use_exits_2_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = vqatool("pretrain", *args)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_size_with_initial_weights_is_refused(tmp_path: Path, small_model: Path) -> None:
    done = vqatool("pretrain", "--data", f"x={tmp_path}", "--init", small_model, "--size", "nano")
    assert done.exit_code == 2
    assert "leave out --init" in done.stderr
