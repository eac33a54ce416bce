"""What `explain` says of a video: the scores of `score`, what moves them, and where."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from ladder import Ffmpeg
from ladder.errors import VideoError
from ladder.media.ffmpeg import run
from tests.conftest import MakeVideo
from tests.hdr import as_hdr
from tests.vqatool.faults import CODES, WORDS, faulty_videos, with_faults
from tests.vqatool.program import read_rows, vqatool
from tests.vqatool.reporting.pages import HOSTILE, tree
from vqatool.cli.demo import demo_clip
from vqatool.inference.card import ModelCard
from vqatool.inference.contents import Contents
from vqatool.inference.loading import load_predictor
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine
from vqatool.inputs.motion import NUM_MOTION_FEATURES
from vqatool.methods import Method, recipe_for
from vqatool.reporting.explanation import GROUPS, ExplainedSegment, Explanation, Moment, explain
from vqatool.reporting.explanation_page import (
    ExplanationFiles,
    reasons,
    worst_stretch,
    write_explanation,
)
from vqatool.reporting.nearest_contents import NearestContents
from vqatool.scoring.rows import ReportRow
from vqatool.scoring.segments import ScoreConfig

SHAPE = {"size": "pico", "grid": 2, "crop_px": 96, "still_short_px": 96, "run_short_px": 96}
BAD_S = (2.0, 3.0)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg) -> Path:
    """Four seconds of a good encode, of which one was a poor rendition before, at the same size."""
    folder = tmp_path_factory.mktemp("planted")
    good, poor, both = (folder / f"{name}.mp4" for name in ("good", "poor", "both"))
    x264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-crf"]
    clip = ["-t", "4", "-i", str(demo_clip()), "-an"]
    run(ffmpeg, [*clip, "-vf", "scale=320:180:flags=area", *x264, "10", str(good)])
    run(ffmpeg, ["-i", str(good), "-vf", "scale=64:36", *x264, "40", str(poor)])
    where = f"overlay=enable='between(t,{BAD_S[0]},{BAD_S[1] - 0.01})'"
    graph = f"[1:v]scale=320:180:flags=bicubic[poor];[0:v][poor]{where}"
    inputs = ["-i", str(good), "-i", str(poor), "-filter_complex", graph]
    run(ffmpeg, [*inputs, *x264, "14", str(both)])
    return both


@pytest.fixture(scope="module")
def explained(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> ExplanationFiles:
    """The files of `explain` for it, and report.csv and segments.csv of `score`."""
    folder = tmp_path_factory.mktemp("explained")
    asked = [planted, "--segment", 1, "--display", "native"]
    tables = ["-o", folder / "report.csv", "--per-segment", folder / "segments.csv"]
    assert vqatool("score", *asked, *tables).exit_code == 0
    done = vqatool("explain", *asked, "-o", folder / "why.html")
    assert done.exit_code == 0, done.output
    assert "worst stretch is 0:02 to 0:03" in done.stderr
    assert "lowest segment apart from the mean of the video most is pixels (-" in done.stderr
    assert "out_of_d" in done.stdout
    return ExplanationFiles(folder / "why.html")


def test_segments_and_scores_are_those_of_score(explained: ExplanationFiles) -> None:
    folder = explained.page.parent
    ours, theirs = read_rows(explained.segments), read_rows(folder / "segments.csv")
    assert [{name: row[name] for name in theirs[0]} for row in ours] == theirs
    (row,) = read_rows(folder / "report.csv")
    found = json.loads(explained.json.read_bytes())
    for name in ("score", "score_low", "score_high", "score_min", "score_p5", "worst_at_s"):
        assert f"{found[name]:.4f}" == row[name]
    for name in ("verdict", "model", "display", "frames_scored"):
        assert str(found[name]) == row[name]


def test_a_planted_bad_stretch_is_found_and_shown(explained: ExplanationFiles) -> None:
    rows = read_rows(explained.segments)
    lowest = min(rows, key=lambda row: float(row["score"]))
    assert (float(lowest["start_s"]), float(lowest["end_s"])) == BAD_S
    others = [float(row["score"]) for row in rows if row is not lowest]
    assert min(others) - float(lowest["score"]) > 30
    assert min(GROUPS, key=lambda name: float(lowest[f"from_{name}"])) == "pixels"
    page = tree(explained.page)
    (first,) = page.select("article")  # the other segments are better than the video
    assert "0:02 to 0:03" in first.get_text()
    assert first.select_one("img[src^='data:image/jpeg']") is not None
    at_s = json.loads(explained.json.read_bytes())["moments"][0]["at_s"]
    assert BAD_S[0] <= at_s < BAD_S[1]


def test_contributions_add_up_to_the_score(explained: ExplanationFiles) -> None:
    for row in read_rows(explained.segments):
        total = float(row["base"]) + sum(float(row[f"from_{name}"]) for name in GROUPS)
        assert total == pytest.approx(float(row["score"]), abs=4e-4)  # the table has four decimals
    found = json.loads(explained.json.read_bytes())
    total = found["base"] + sum(found["contributions"].values())
    assert total == pytest.approx(found["score"], abs=4e-4)
    bases = {row["base"] for row in read_rows(explained.segments)}
    assert len(bases) == 1  # frames do not move the packaged model, so a typical clip has one score


def test_every_picture_has_a_title_and_a_scale(explained: ExplanationFiles) -> None:
    page = tree(explained.page)
    drawings = page.select("svg")
    assert len(drawings) == 1 + 1 + len(GROUPS) + 1  # timeline, parts, strips, and the moment
    for drawing in drawings:
        title = drawing.select_one("title")
        assert title is not None
        assert title["id"] == drawing["aria-labelledby"]
        assert len(drawing.select("text.label")) >= 5
        caption = drawing.find_parent("figure")
        assert caption is not None
        assert caption.select_one("figcaption") is not None
    assert len({title["id"] for title in page.select("svg > title")}) == len(drawings)
    assert all(image["alt"] for image in page.select("img"))
    assert "Is it like the training data?" in page.get_text()


def test_figures_are_told_in_their_units(explained: ExplanationFiles) -> None:
    figures = {each["name"]: each for each in json.loads(explained.json.read_bytes())["figures"]}
    assert figures["frame rate"]["segments"] == pytest.approx([25.0] * 4, rel=1e-3)
    assert figures["shown height"]["segments"] == pytest.approx([180.0] * 4, rel=1e-3)
    assert figures["coded height / shown height"]["segments"] == pytest.approx([1.0] * 4)
    assert 1 < figures["quantiser step, mean"]["segments"][0] < 8  # CRF 14
    assert 30 < figures["PSNR of that probe"]["segments"][0] < 50
    assert 540 <= figures["shown height"]["typical"] < 720


@pytest.fixture(scope="module")
def zoom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    recipe = recipe_for(Method.ZOOM_VQA, SHAPE)
    card = ModelCard(
        method=Method.ZOOM_VQA.value, shape=recipe.shape, clip_frames=3, label="vmaf_v0.6.1"
    )
    path = tmp_path_factory.mktemp("model") / "zoom.safetensors"
    save_checkpoint(Checkpoint(card, recipe.build().state_dict()), path)
    return path


def test_branches_have_curves_and_attention_maps(
    tmp_path: Path, make_video: MakeVideo, zoom: Path
) -> None:
    video = make_video("five-seconds.mp4", "testsrc2=size=192x108:rate=25:duration=5")
    files = ExplanationFiles(tmp_path / "why.html")
    asked = ["-m", zoom, "-o", files.page, "--clip", "2.5+1", "--segment", 2.5]
    done = vqatool("explain", video, *asked, "--display", "native")
    assert done.exit_code == 0, done.output
    assert "what each input adds is not known" in done.stderr
    assert done.stderr.replace("\n", " ").count("nearest training contents are not known") == 1
    rows = read_rows(files.frames)
    times = {
        part: [float(row["at_s"]) for row in rows if row["part"] == part]
        for part in ("all", "stills", "runs")
    }
    # the middles of thirds of two segments
    middles = [0.4167, 1.25, 2.0833, 2.9167, 3.75, 4.5833]
    assert times["all"] == times["stills"] == pytest.approx(middles, abs=1e-4)
    assert len(times["runs"]) == 6 * recipe_for(Method.ZOOM_VQA, SHAPE).frame_group.num_frames
    assert times["runs"] == sorted(times["runs"])
    assert all(1 < float(row["score"]) <= 100 for row in rows)  # fresh ones are middling
    page = tree(files.page)
    assert [each.get_text() for each in page.select("ul.maps li")] == [
        f"stills, {at}" for at in ("0:02.9", "0:03.8", "0:04.6")
    ]
    assert [each["width"] for each in page.select("ul.maps img")] == ["96"] * 3
    (shown,) = page.select("article")  # what --clip asks for, and no other segment
    assert shown.select_one("svg linearGradient, svg lineargradient") is not None
    assert len(page.select("#branches svg")) == 2
    assert not page.select("#inputs")
    assert {row["from_pixels"] for row in read_rows(files.segments)} == {""}
    assert json.loads(files.json.read_bytes())["nearest_contents"] is None
    assert "nearest training contents are not known" in page.get_text()


def by_motion(**places: float) -> Contents:
    """Contents at places along a line, which is the mean change from frame to frame."""
    projection = np.zeros((2 * NUM_MOTION_FEATURES, 1), np.float16)
    projection[0] = 1
    place = np.array([*places.values()], np.float16)[:, None]
    return Contents(tuple(places), place, projection, own=0.25)


def test_the_nearest_training_contents_are_named(
    tmp_path: Path, make_video: MakeVideo, small_model: Path
) -> None:
    still = make_video("still-bars.mp4", "smptebars=size=192x108:rate=10:duration=2")
    model, place = tmp_path / "m.safetensors", np.log2(0.1) / 2  # of no change
    contents = by_motion(storm=9.0, slides=place + 0.1, river=place + 2.5, desk=place - 0.75)
    save_checkpoint(replace(load_checkpoint(small_model), contents=contents), model)
    done = vqatool("explain", still, "-m", model, "-o", tmp_path / "why.html", "--segment", 1)
    assert done.exit_code == 0, done.output
    told = done.stderr.replace("\n", " ")
    named = r"nearest of 4 training contents: slides \(0.\d\), desk \(0.\d\) and river \(2.\d\); "
    assert re.search(named, told), told
    assert "the first is as near as encodes of one content are to each other" in told
    found = json.loads((tmp_path / "why.json").read_bytes())["nearest_contents"]
    assert [each["name"] for each in found["contents"]] == ["slides", "desk", "river"]
    assert [each["distance"] for each in found["contents"]] == pytest.approx(
        [0.1, 0.75, 2.5],
        abs=0.1,  # the encode changes a little
    )
    assert found["far_segments"] == 0
    lines = [row.get_text("|") for row in tree(tmp_path / "why.html").select("#file tbody tr")]
    assert "nearer than 25 % of these contents are to their own nearest" in lines[2]


@pytest.mark.parametrize(
    ("distances", "is_far", "far_segments", "words"),
    [
        ([[0.0, 2.0], [9.0, 2.0], [9.0, 2.0]], False, 0, "b (2.0) and a (9.0); the first is"),
        ([[7.0, 9.0], [8.0, 9.0], [0.1, 9.0]], True, 2, "even the first is farther than 95 %"),
    ],
)
def test_a_video_far_from_all_contents_says_so(
    distances: list[list[float]], is_far: bool, far_segments: int, words: str
) -> None:
    found = NearestContents.of(
        by_motion(a=0.0, b=3.0), [np.array(each, np.float32) for each in distances]
    )
    assert (found.is_far, found.far_segments) == (is_far, far_segments)
    assert words in found.sentence()
    assert [line.is_far for line in found.lines()] == [is_far, True]


def test_json_alone_writes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_clips: list[Path], small_model: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = vqatool("explain", real_clips[0], "-m", small_model, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["base"], found["contributions"], len(found["segments"])) == (None, {}, 1)
    assert not list(tmp_path.iterdir())
    assert vqatool("explain", real_clips[0], "-m", small_model, "-q").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "explained").iterdir()) == [
        f"{real_clips[0].name}{end}" for end in ("-frames.csv", "-segments.csv", ".html", ".json")
    ]
    again = vqatool("explain", real_clips[0], "-m", small_model, "-q")
    assert again.exit_code == 0, again.output  # they are ours
    (tmp_path / "explained" / f"{real_clips[0].name}.html").write_text("a diary")
    refused = vqatool("explain", real_clips[0], "-m", small_model)
    assert refused.exit_code == 2
    assert "did not write it" in refused.output.replace("\n", " ")


def test_a_clip_after_the_end_and_a_text_file_are_errors(
    tmp_path: Path, real_clips: list[Path], small_model: Path
) -> None:
    out = ["-m", small_model, "-o", tmp_path / "why.html"]
    done = vqatool("explain", real_clips[0], "--clip", "900+10", *out)
    assert done.exit_code == 2
    assert "begins after its end" in done.output.replace("\n", " ")
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    done = vqatool("explain", text, *out)
    assert done.exit_code == 2
    assert "notes.mp4" in done.output
    assert not (tmp_path / "why.html").exists()


@pytest.mark.parametrize("name", ["why.csv", "-"])
def test_what_is_neither_a_page_nor_a_folder_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_clips: list[Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = vqatool("explain", real_clips[0], "-o", name)
    assert done.exit_code == 2
    assert "--json" in done.output
    assert not list(tmp_path.iterdir())


def test_hdr_is_explained_as_sdr_alone(
    make_video: MakeVideo, source_video: Path, small_model: Path
) -> None:
    hdr = as_hdr(make_video, source_video, "hlg")
    predictor = load_predictor(small_model, "cpu")
    config = ScoreConfig(display=None)
    with pytest.raises(VideoError, match=r"is HDR \(hlg\).*--tonemap"):
        explain(predictor, hdr, config)
    assert explain(predictor, hdr, replace(config, tonemap=True)).row.score is not None


def test_a_decoder_that_fails_is_an_error_that_names_the_file(
    make_video: MakeVideo, small_model: Path, marks: Path
) -> None:
    predictor = load_predictor(small_model, "cpu")
    views = with_faults(predictor.preprocessor.views, marks)
    predictor.preprocessor = replace(predictor.preprocessor, views=views)
    for path, code, word in zip(faulty_videos(make_video), CODES.values(), WORDS, strict=True):
        with pytest.raises(VideoError, match=rf"{path.name}.*{word}") as caught:
            explain(predictor, path, ScoreConfig(display=None, timeout_s=0.2))
        assert caught.value.code == code


def test_both_forms_of_the_packaged_model_know_the_same_training_data() -> None:
    from vqatool.inference.model_file import default_checkpoint

    forms = load_predictor(device="cpu"), Predictor(TorchEngine(default_checkpoint(), "cpu"))
    known = {form.contents and form.contents.text() for form in forms}
    assert len(known) == 1
    exported, trainable = (form.typical for form in forms)
    assert [bool(each) for each in exported] == [False, True, True, True, True]
    for ours, theirs in zip(exported, trainable, strict=True):
        for mine, other in zip(ours or (), theirs or (), strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or mine == pytest.approx(other, rel=1e-4)


def of_scores(path: Path, *scores: float) -> Explanation:
    """An explanation of segments of a second each, whose pixels alone move the score."""
    segments = [
        ExplainedSegment(
            path=str(path), start_s=index, end_s=index + 1.0, score=score, score_low=score,
            score_high=score, base=80.0, from_pixels=score - 80.0,
        )
        for index, score in enumerate(scores)
    ]  # fmt: skip
    row = ReportRow(
        path=str(path), status="ok", score=sum(scores) / len(scores), score_low=0.0,
        score_high=100.0, score_min=min(scores), worst_at_s=0.0, duration_s=float(len(scores)),
        frames_scored=8, display="native", model="none", verdict="unsure",
    )  # fmt: skip
    return Explanation(
        row=row, segments=segments, frame_scores=[], moments=[Moment(0, 0.5)], readings=[],
        limits=None, nearest=None,
    )  # fmt: skip


def test_the_worst_stretch_is_what_lies_low_around_the_lowest_segment() -> None:
    video = Path("a.mp4")
    found = worst_stretch(of_scores(video, 90, 30, 10, 20, 88, 15, 91, 92, 90))
    assert (found.start_s, found.end_s, found.score, found.rest) == (1.0, 4.0, 20.0, 88)
    assert (
        "its segments are alike: the lowest scores 84.0" in reasons(of_scores(video, 86, 84, 88))[1]
    )
    assert reasons(of_scores(video, 50)) == [
        "a typical clip of the training data scores 80.0; "
        "what differs in this video makes it 50.0: pixels -30.0 points"
    ]


def test_a_worst_segment_of_a_worse_verdict_is_in_the_headline(tmp_path: Path) -> None:
    page = ExplanationFiles(tmp_path / "why.html")
    for scores, told in (
        ((10.0, 100.0, 100.0, 95.0), "! 76.2, good; its worst segment 10.0, bad, from 0:00"),
        ((69.0, 71.0, 72.0, 73.0), "\u2713 71.2, good"),
    ):
        found = of_scores(tmp_path / "a.mp4", *scores)
        row = replace(found.row, verdict="good")
        write_explanation(replace(found, row=row), page)
        outcome = tree(page.page).select_one(".outcome")
        assert outcome is not None
        assert " ".join(outcome.get_text().split()) == told


def test_names_and_missing_pictures_are_shown_as_they_are(tmp_path: Path) -> None:
    page = ExplanationFiles(tmp_path / "why.html")
    write_explanation(of_scores(tmp_path / HOSTILE[1], 40.0, 80.0), page)
    shown = tree(page.page)
    assert [script.get_text()[:12] for script in shown.select("script")] == ['"use strict"']
    notice = shown.select_one("#moments .notice")
    assert isinstance(shown, BeautifulSoup)
    assert notice is not None
    assert "no pictures" in notice.get_text().lower()
    told = shown.select_one(".sources")
    assert told is not None
    assert "judged by none, pixel for pixel, not scaled to a screen (native)" in told.get_text()
    title = shown.select_one("title")
    assert title is not None
    assert title.get_text() == f"Why {Path(HOSTILE[1]).name} has its score"
    assert not shown.select("img")
