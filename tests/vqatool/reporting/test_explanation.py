"""Scores of frames and branches, and attention maps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from ladder.errors import VideoError
from ladder.media.probe import probe
from tests.conftest import MakeVideo
from tests.hdr import as_hdr
from tests.vqatool.faults import CODES, WORDS, faulty_videos, with_faults
from tests.vqatool.program import read_rows, vqatool
from vqatool.inference.card import ModelCard
from vqatool.inference.loading import load_predictor
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine
from vqatool.methods import Method, recipe_for
from vqatool.reporting.explanation import draw_attention_map, explain

SHAPE = {"size": "pico", "grid": 2, "crop_px": 96, "still_short_px": 96, "run_short_px": 96}


@pytest.fixture(scope="module")
def zoom() -> Checkpoint:
    torch.manual_seed(1)
    recipe = recipe_for(Method.ZOOM_VQA, SHAPE)
    card = ModelCard(
        method=Method.ZOOM_VQA.value, shape=recipe.shape, clip_frames=3, label="vmaf_v0.6.1"
    )
    return Checkpoint(card, recipe.build().state_dict())


def test_branches_have_curves_and_attention_maps(
    tmp_path: Path, make_video: MakeVideo, zoom: Checkpoint
) -> None:
    video = make_video("five-seconds.mp4", "testsrc2=size=192x108:rate=25:duration=5")
    model, out = tmp_path / "zoom.safetensors", tmp_path / "why"
    save_checkpoint(zoom, model)
    asked = ["-m", model, "-o", out, "--clip", "1+3", "--display", "native"]
    done = vqatool("explain", video, *asked)
    assert done.exit_code == 0, done.output
    assert "3 pictures" in done.output
    rows = read_rows(out / "moments.csv")
    of_part = {part: [row for row in rows if row["part"] == part] for part in ("all", "stills")}
    # the middles of three seconds from the first one on
    assert [float(row["at_s"]) for row in of_part["all"]] == [1.5, 2.5, 3.5]
    assert [float(row["at_s"]) for row in of_part["stills"]] == [1.5, 2.5, 3.5]
    assert "stills alone" in done.output
    assert {row["at_s"] for row in rows} >= {"1.500", "1.580"}  # of a run, every second frame
    assert all(1 < float(row["score"]) <= 100 for row in rows)  # fresh ones are middling
    runs = [float(row["at_s"]) for row in rows if row["part"] == "runs"]
    assert len(runs) == 3 * zoom.card.shape["burst_frames"]
    assert runs == sorted(runs)
    pictures = sorted(out.glob("stills-*.png"))
    assert [path.name for path in pictures] == [f"stills-0000{at}.500.png" for at in (1, 2, 3)]
    assert imread(pictures[0]).shape[:2] == (96, 96)


def test_an_attention_map_shows_the_weights(
    tmp_path: Path, real_clips: list[Path], zoom: Checkpoint
) -> None:
    model, out = tmp_path / "zoom.safetensors", tmp_path / "why"
    save_checkpoint(zoom, model)
    stored = load_checkpoint(model)
    assert vqatool("explain", real_clips[0], "-m", model, "-o", out).exit_code == 0
    predictor = Predictor(TorchEngine(stored, "cpu"))
    stills, runs = predictor.preprocessor.load_views(probe(real_clips[0]), (1920, 1080))
    branch = predictor.predict([[stills, runs]]).branches[0]
    assert branch.weight_map_BTHW is not None
    for picture, frame, weights in zip(
        sorted(out.glob("stills-*.png")), stills, branch.weight_map_BTHW[0], strict=True
    ):
        expected = draw_attention_map(frame.transpose(1, 2, 0), weights)
        shown = 255 * imread(picture)[..., :3]
        assert np.abs(shown - expected).max() < 1.01


def test_any_model_has_a_curve(tmp_path: Path, real_clips: list[Path]) -> None:
    out, report = tmp_path / "why", tmp_path / "report.csv"
    done = vqatool("explain", real_clips[0], "-o", out)
    assert done.exit_code == 0, done.output
    rows = read_rows(out / "moments.csv")
    assert {row["part"] for row in rows} == {"all"}
    assert all(0 <= float(row["score"]) <= 100 for row in rows)
    assert not list(out.glob("*.png"))
    # one clip is what score calls a segment
    asked = ["--segment", "1000", "-o", report]
    assert vqatool("score", real_clips[0], *asked).exit_code == 0
    assert f"score {float(read_rows(report)[0]['score']):.1f}" in done.output


def test_a_clip_after_the_end_and_a_text_file_are_errors(
    tmp_path: Path, real_clips: list[Path]
) -> None:
    done = vqatool("explain", real_clips[0], "--clip", "900+10", "-o", tmp_path / "why")
    assert done.exit_code == 2
    assert "begins after its end" in done.output.replace("\n", " ")
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    done = vqatool("explain", text, "-o", tmp_path / "why")
    assert done.exit_code == 2
    assert "notes.mp4" in done.output


def test_hdr_is_explained_as_sdr_alone(
    make_video: MakeVideo, source_video: Path, small_model: Path
) -> None:
    hdr = as_hdr(make_video, source_video, "hlg")
    predictor = load_predictor(small_model, "cpu")
    with pytest.raises(VideoError, match=r"is HDR \(hlg\).*--tonemap"):
        explain(predictor, hdr, None)
    assert explain(predictor, hdr, None, tonemap=True).scores


def test_a_decoder_that_fails_is_an_error_that_names_the_file(
    make_video: MakeVideo, zoom: Checkpoint
) -> None:
    predictor = Predictor(TorchEngine(zoom, "cpu"))
    views = with_faults(predictor.preprocessor.views)
    predictor.preprocessor = replace(predictor.preprocessor, views=views)
    for path, code, word in zip(faulty_videos(make_video), CODES.values(), WORDS, strict=True):
        with pytest.raises(VideoError, match=rf"{path.name}.*{word}") as caught:
            explain(predictor, path, None, timeout_s=4)
        assert caught.value.code == code
