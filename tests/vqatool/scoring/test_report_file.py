"""Videos -> a report: complete, resumable, and the same for any number of workers."""

import csv
import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ladder import Ffmpeg
from ladder.media.ffmpeg import run
from ladder.media.probe import Size
from tests.conftest import MakeVideo
from tests.hdr import as_hdr
from vqatool.cli.demo import demo_clip
from vqatool.errors import ReportError
from vqatool.inference.loading import load_predictor
from vqatool.inference.model_file import load_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine
from vqatool.scoring.gates import Gate, Thresholds
from vqatool.scoring.report_file import (
    Resumed,
    read_report,
    read_segments,
    write_report,
    write_whole,
)
from vqatool.scoring.rows import ReportRow
from vqatool.scoring.segments import ScoreConfig

NATIVE = ScoreConfig(display=None)


def rows_into(
    out: Path,
    videos: list[Path],
    predictor: Predictor,
    config: ScoreConfig = NATIVE,
    *,
    jobs: int | None = None,
    is_forced: bool = False,
    per_segment: Path | None = None,
) -> Iterator[ReportRow]:
    config = replace(config, jobs=jobs)
    return write_report(
        videos, out, predictor, config, per_segment=per_segment, is_forced=is_forced
    )


@pytest.fixture(scope="module")
def predictor(small_model: Path) -> Predictor:
    return Predictor(TorchEngine(load_checkpoint(small_model), "cpu"))


@pytest.fixture
def videos(work_folder: Path) -> list[Path]:
    return sorted(work_folder.rglob("*.mp4"))[:5]


def without_time(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row | {"score_s": ""} for row in csv.DictReader(file)]


def test_every_video_is_a_row_in_the_order_given(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "report.csv"
    given = videos[::-1]
    rows = list(rows_into(out, given, predictor))
    assert [row.path for row in read_report(out)] == list(map(str, given))
    for row in rows:
        assert row.status == "ok"
        assert row.score is not None
        assert row.score_low is not None
        assert row.score_high is not None
        assert 0 <= row.score_low <= row.score <= row.score_high <= 100
        assert row.score_min == row.score == row.score_p5  # one segment
        assert (row.codec, row.pix_fmt, row.bit_depth) in {
            ("h264", "yuv420p", 8),
            ("vp9", "yuv420p", 8),
        }
        assert (row.segments, row.frames_scored) == (1, 4)
        assert row.model == predictor.name


def test_a_bad_file_is_a_row_without_scores(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    bad = {
        "missing": tmp_path / "missing.mp4",
        "empty": tmp_path / "empty.mp4",
        "not_video": tmp_path / "text.mp4",
    }
    bad["empty"].touch()
    bad["not_video"].write_text("this is no video\n" * 50)
    mixed = [bad["empty"], videos[0], bad["not_video"], bad["missing"], videos[1]]
    rows = {row.path: row for row in rows_into(tmp_path / "r.csv", mixed, predictor)}
    assert len(rows) == 5
    for code, path in bad.items():
        row = rows[str(path)]
        assert (row.status, row.error_code, row.score) == ("error", code, None)
        assert path.name in row.error
    assert all(rows[str(path)].status == "ok" for path in videos[:2])


def test_a_repeated_run_scores_nothing_again(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    list(rows_into(out, videos, predictor))
    before = out.read_bytes()
    list(rows_into(out, videos, predictor))
    assert out.read_bytes() == before  # the timings too


def test_a_changed_file_is_scored_again(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    first = {row.path: row for row in rows_into(out, videos, predictor)}
    videos[0].write_bytes(videos[1].read_bytes())
    second = {row.path: row for row in rows_into(out, videos, predictor)}
    changed = [path for path, row in first.items() if row != second[path]]
    assert changed == [str(videos[0])]


def test_another_display_is_scored_again(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    list(rows_into(out, videos[:1], predictor))
    (row,) = rows_into(out, videos[:1], predictor, ScoreConfig(display=Size(320, 180)))
    assert row.display == "320x180"


def test_other_segments_are_scored_again(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    (whole,) = rows_into(out, videos[:1], predictor, ScoreConfig(None, 10))
    (parts,) = rows_into(out, videos[:1], predictor, ScoreConfig(None, 0.2))
    assert (whole.segments, whole.frames_scored) == (1, 4)  # two groups of two frames
    assert parts.segments is not None
    assert parts.segments > 1
    assert parts.frames_scored == 2 * parts.segments  # a short segment has one group
    (alike,) = rows_into(out, videos[:1], predictor, ScoreConfig(None, 0.21))
    assert alike == parts  # the same number of segments are the same segments
    # a report of version 0.1, without the column
    former = replace(parts, segments=None, frames_scored=2 * parts.segments)
    write_whole([former], out)
    assert list(rows_into(out, videos[:1], predictor, ScoreConfig(None, 0.2))) == [former]
    (other,) = rows_into(out, videos[:1], predictor, ScoreConfig(None, 10))
    assert replace(other, score_s=None) == replace(whole, score_s=None)


def test_hdr_gets_no_score_but_as_sdr(
    make_video: MakeVideo, source_video: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out, hdr = tmp_path / "r.csv", as_hdr(make_video, source_video, "pq")
    as_sdr = replace(NATIVE, tonemap=True)
    (row,) = rows_into(out, [hdr], predictor)
    assert (row.status, row.score, row.score_low, row.frames_scored) == ("error", None, None, None)
    assert (row.error_code, row.hdr, row.warnings, row.width_px) == ("hdr", "pq", "hdr;short", 192)
    assert f"{hdr} is HDR (pq)" in row.error
    assert "--tonemap scores it as SDR" in row.error
    (mapped,) = rows_into(out, [hdr], predictor, as_sdr)
    assert (mapped.status, mapped.hdr, mapped.warnings) == ("ok", "pq", "tonemapped;short")
    assert mapped.score is not None
    (kept,) = rows_into(out, [hdr], predictor, as_sdr)
    assert kept == mapped  # with its timing
    assert [row.error_code for row in rows_into(out, [hdr], predictor)] == ["hdr"]
    plain = [next(rows_into(tmp_path / "s.csv", [source_video], predictor, way)).warnings
             for way in (NATIVE, as_sdr)]  # fmt: skip
    assert plain == ["short"] * 2


def test_interlace_that_begins_later_is_told(
    interlaced_later: Path, predictor: Predictor, tmp_path: Path
) -> None:
    parts = tmp_path / "s.csv"
    config = replace(NATIVE, segment_s=1)
    (row,) = rows_into(tmp_path / "r.csv", [interlaced_later], predictor, config, per_segment=parts)
    assert (row.status, row.warnings.split(";")[0]) == ("ok", "partly_interlaced")
    told = ["partly_interlaced" in line for line in parts.read_text().splitlines()[1:]]
    assert told == [False, True]


def test_a_row_of_hdr_from_a_version_that_scored_it_as_it_is_goes(
    make_video: MakeVideo, source_video: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out, hdr = tmp_path / "r.csv", as_hdr(make_video, source_video, "pq")
    list(rows_into(out, [hdr], predictor, replace(NATIVE, tonemap=True)))
    out.write_text(out.read_text().replace(",tonemapped;", ",hdr;"))
    (row,) = rows_into(out, [hdr], predictor)
    assert row.error_code == "hdr"


@pytest.mark.parametrize("hdr", ["pq", "hlg"])
def test_a_tone_mapped_film_gets_nearly_the_score_that_it_has_in_sdr(
    make_video: MakeVideo, tmp_path: Path, hdr: str
) -> None:
    film = ("-t", "1", "-vf", "scale=640:360:flags=area,setsar=1", "-an", "-c:v", "libx265")
    coded = ("-x265-params", "log-level=error", "-preset", "ultrafast", "-crf", "20")
    sdr = make_video("film-sdr.mp4", demo_clip(), (*film, *coded))
    videos = [sdr, as_hdr(make_video, sdr, hdr, "-crf", "20")]
    config = ScoreConfig(display=Size(640, 360), tonemap=True)
    rows = rows_into(tmp_path / "r.csv", videos, load_predictor(device="cpu"), config)
    plain, mapped = (row.score for row in rows)
    assert mapped == pytest.approx(plain, abs=6)


FOREIGN = {
    "table": b"name,price\nx,1\ny,2",
    "one line": b"dear diary",
    "binary": bytes(range(256)) * 8,
    "blank line": b"\n",
}


@pytest.mark.parametrize("is_forced", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_a_report_is_refused_and_left_as_it_is(
    name: str, is_forced: bool, videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    out.write_bytes(FOREIGN[name])
    with pytest.raises(ReportError, match=r"r\.csv"):
        list(rows_into(out, videos[:1], predictor, is_forced=is_forced))
    assert out.read_bytes() == FOREIGN[name]
    assert not list(tmp_path.glob("*.part"))


def test_an_empty_file_may_become_a_report(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    out.touch()
    (row,) = rows_into(out, videos[:1], predictor)
    assert read_report(out) == [row]


def test_a_report_holds_the_inputs_of_the_latest_run(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    list(rows_into(out, videos, predictor))
    list(rows_into(out, videos[:2], predictor))
    assert [row.path for row in read_report(out)] == list(map(str, videos[:2]))


def test_an_interrupted_report_ends_like_an_uninterrupted_one(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.csv"
    list(rows_into(whole, videos, predictor))
    for done in range(1, 4):
        broken = tmp_path / f"broken-{done}.csv"
        half: Iterator[ReportRow] = rows_into(broken, videos, predictor)
        list(itertools.islice(half, done))
        del half  # closing the generator rewrites nothing, like a kill
        with broken.open("a") as file:
            file.write('"torn,li')
        list(rows_into(broken, videos, predictor))
        assert without_time(broken) == without_time(whole), done


def test_jobs_do_not_change_the_report(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    reports = []
    for jobs in (1, 4):
        out = tmp_path / f"{jobs}.csv"
        list(rows_into(out, videos, predictor, jobs=jobs))
        reports.append(without_time(out))
    assert reports[0] == reports[1]


def test_a_long_video_is_scored_in_segments(
    ffmpeg: Ffmpeg, predictor: Predictor, tmp_path: Path
) -> None:
    clip = tmp_path / "worse.mp4"
    # sharp for three seconds, then a blur
    blur = "testsrc2=s=160x90:r=10:d=6,gblur=8:enable='gte(t,3)'"
    run(ffmpeg, ["-f", "lavfi", "-i", blur, "-crf", "5", "-pix_fmt", "yuv420p", str(clip)])
    config = ScoreConfig(display=None, segment_s=1.0)
    (row,) = rows_into(tmp_path / "r.csv", [clip], predictor, config)
    assert row.frames_scored == 12
    assert row.score is not None
    assert row.score_min is not None
    assert row.score_p5 is not None
    assert row.score_min <= row.score_p5 <= row.score
    assert row.score_min < row.score
    assert row.worst_at_s in {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}


def test_a_sample_is_of_the_segments_that_all_would_be(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out, parts = tmp_path / "r.csv", tmp_path / "s.csv"
    config = ScoreConfig(None, 0.1)
    (whole,) = rows_into(out, videos[:1], predictor, config, per_segment=parts)
    every = parts.read_text().splitlines()[1:]
    few = replace(config, sample=3)
    (row,) = rows_into(out, videos[:1], predictor, few, per_segment=parts)
    sampled = parts.read_text().splitlines()[1:]
    count = len(every)
    assert count > 3
    assert sampled == [every[count // 6], every[count // 2], every[5 * count // 6]]
    assert (row.sampled, row.frames_scored) == (f"3/{count}", 6)
    assert "sampled" in row.warnings.split(";")
    (again,) = rows_into(out, videos[:1], predictor, few, per_segment=parts)
    assert again == row  # kept
    (other,) = rows_into(out, videos[:1], predictor, replace(few, segment_s=0.2))
    assert other.sampled != row.sampled
    (all_again,) = rows_into(out, videos[:1], predictor, config)
    assert replace(all_again, score_s=None) == replace(whole, score_s=None)


def test_a_skimmed_video_has_all_segments_and_says_so(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out, skim = tmp_path / "r.csv", ScoreConfig(None, 0.04, skims=True)
    (row,) = rows_into(out, videos[:1], predictor, skim)
    (kept,) = rows_into(out, videos[:1], predictor, skim)
    assert (row.sampled, row.warnings) == ("skim", kept.warnings)
    assert kept == row
    (whole,) = rows_into(out, videos[:1], predictor, replace(skim, skims=False))
    assert (whole.sampled, whole.segments) == ("", row.segments)
    assert list(rows_into(out, videos[:1], predictor, skim)) == [whole]  # kept: it has all
    one = replace(skim, segment_s=5.0)
    (short,) = rows_into(out, videos[:1], predictor, one)
    assert short.sampled == ""


def test_the_segment_file_has_a_row_for_each_segment(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out, timeline = tmp_path / "r.csv", tmp_path / "deep" / "timeline.csv"
    config = ScoreConfig(None, 0.1)
    rows = list(rows_into(out, videos[:2], predictor, config, per_segment=timeline))
    with timeline.open(newline="") as file:
        segments = list(csv.DictReader(file))
    for row in rows:
        own = [segment for segment in segments if segment["path"] == row.path]
        scores = [float(segment["score"]) for segment in own]
        assert row.frames_scored == 2 * len(own) > 2
        assert row.score == pytest.approx(sum(scores) / len(scores), abs=1e-4)
        assert row.score_min == min(scores)
        assert float(own[scores.index(min(scores))]["start_s"]) == row.worst_at_s
        assert [segment["end_s"] for segment in own[:-1]] == [s["start_s"] for s in own[1:]]
        assert row.duration_s == float(own[-1]["end_s"])


def test_segments_can_be_requested_in_a_later_run(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out, timeline = tmp_path / "r.csv", tmp_path / "timeline.csv"
    first = list(rows_into(out, videos[:2], predictor))
    list(rows_into(out, videos[:2], predictor, per_segment=timeline))
    before = timeline.read_bytes()
    assert before.count(b"\n") == 3
    again = list(rows_into(out, videos[:2], predictor, per_segment=timeline))
    assert timeline.read_bytes() == before
    assert [replace(row, score_s=None) for row in again] == [
        replace(row, score_s=None) for row in first
    ]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_a_report_of_any_format_is_resumed(
    suffix: str, videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / f"r.{suffix}"
    half = rows_into(out, videos, predictor)
    first = list(itertools.islice(half, 2))
    del half
    assert not out.exists()
    rows = list(rows_into(out, videos, predictor))
    assert rows[:2] == first  # the timings too: they were kept
    before = out.read_bytes()
    assert read_report(out) == list(rows_into(out, videos, predictor)) == rows
    assert out.read_bytes() == before


def test_two_runs_never_write_one_report(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    half = rows_into(out, videos[:2], predictor)
    next(half)
    with pytest.raises(ReportError, match=r"r\.csv is being written by another run"):
        next(rows_into(out, videos[:2], predictor))
    other = list(rows_into(tmp_path / "other.csv", videos[:1], predictor))
    assert len(other) == 1
    assert len(list(half)) == 1


def test_batches_of_several_videos_give_every_video_its_own_scores(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "empty.mp4"
    bad.touch()
    mixed = [videos[0], bad, *videos[1:3], bad.with_name("gone.mp4"), videos[3]]
    engine, config = TorchEngine(load_checkpoint(small_model), "cpu"), ScoreConfig(None, 0.1)
    alone = [
        row
        for number, path in enumerate(mixed)
        for row in rows_into(tmp_path / f"{number}.csv", [path], Predictor(engine, batch=1), config)
    ]
    for batch in (1, 3, 16):
        out = tmp_path / f"batch-{batch}.csv"
        rows = list(rows_into(out, mixed, Predictor(engine, batch=batch), config))
        assert [row.path for row in rows] == list(map(str, mixed))
        for row, single in zip(rows, alone, strict=True):
            assert row.score == (None if row.error else pytest.approx(single.score, abs=0.01))


@pytest.mark.parametrize(
    "picture",
    [
        "nullsrc=s=640x360:r=25,geq=random(1)*255:128:128",
        "color=black:s=640x360",
        "smptebars=s=640x360",
        "testsrc2=s=640x360",
        "mandelbrot=s=640x360",
        "nullsrc=s=8x8,geq=random(1)*255:128:128,scale=640:360:flags=neighbor",
    ],
)
def test_synthetic_pictures_are_out_of_distribution_for_the_packaged_model(
    ffmpeg: Ffmpeg, tmp_path: Path, picture: str
) -> None:
    path = tmp_path / "odd.mp4"
    run(ffmpeg, ["-f", "lavfi", "-i", picture, "-frames:v", "30", "-pix_fmt", "yuv420p", str(path)])
    predictor = load_predictor(device="cpu")
    (row,) = rows_into(tmp_path / "report.csv", [path], predictor)
    assert "out_of_domain" in row.warnings.split(";")


def test_films_are_in_distribution_for_the_packaged_model(tmp_path: Path) -> None:
    clips = [demo_clip(), demo_clip().with_name("bikes.mp4")]
    predictor = load_predictor(device="cpu")
    rows = list(rows_into(tmp_path / "report.csv", clips, predictor))
    assert ["out_of_domain" in row.warnings for row in rows] == [False, False]


def test_a_model_that_gives_no_number_gives_an_error_row(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(small_model)
    broken = {key: torch.full_like(value, torch.nan) for key, value in checkpoint.weights.items()}
    predictor = Predictor(TorchEngine(replace(checkpoint, weights=broken), "cpu"), batch=2)
    bad = tmp_path / "empty.mp4"
    bad.touch()
    rows = list(rows_into(tmp_path / "r.csv", [videos[0], bad, videos[1]], predictor))
    assert [row.status for row in rows] == ["error"] * 3
    assert [row.error_code for row in rows] == ["not_finite", "empty", "not_finite"]
    assert rows[0].score is None
    assert rows[0].duration_s  # its facts stay
    assert str(videos[0]) in rows[0].error
    assert Gate(Thresholds(70)).is_missed(rows[0])


def test_a_model_that_gives_no_band_gives_an_error_row(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(small_model)
    weights = {
        name: torch.full_like(value, torch.nan) if name.startswith("_spread") else value
        for name, value in checkpoint.weights.items()
    }
    card = replace(checkpoint.card, band_per_spread=1.0)
    broken = replace(checkpoint, weights=weights, card=card)
    predictor = Predictor(TorchEngine(broken, "cpu"), batch=2)
    (row,) = rows_into(tmp_path / "r.csv", videos[:1], predictor)
    assert row.error_code == "not_finite"


def test_nothing_but_the_report_is_left_in_its_folder(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    for name in ("r.csv", "r.json"):
        list(rows_into(tmp_path / "out" / name, videos[:1], predictor))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["r.csv", "r.json"]


@pytest.mark.parametrize("folder", ["file", "/proc"])
def test_a_report_that_cannot_be_created_is_an_error_with_path_and_reason(
    folder: str, videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / folder / "report.csv"
    with pytest.raises(ReportError, match=rf"{out} cannot be written \(\w+"):
        list(rows_into(out, videos[:1], predictor))


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_a_full_disk_is_an_error_with_path_and_reason(
    name: str,
    videos: list[Path],
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sync(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(ReportError, match=rf"{name} cannot be written \(.*No space left"):
        list(rows_into(tmp_path / name, videos[:1], predictor))


def test_a_caller_that_stops_asking_finds_torch_as_it_was(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        rows = rows_into(tmp_path / "r.csv", videos[:2], predictor)
        next(rows)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


OTHER = ScoreConfig(display=Size(320, 180))


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_rows_of_another_display_stay_until_their_files_are_scored_again(
    name: str, videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out, parts = tmp_path / name, tmp_path / "s.csv"
    first = list(rows_into(out, videos[:3], predictor, per_segment=parts))
    few_scores = [row.score for row in first[1:]]
    told: list[Resumed] = []
    half = write_report(videos[:3], out, predictor, OTHER, per_segment=parts, on_start=told.append)
    new = next(half)
    assert told == [Resumed(0, {"--display native, now 320x180": 3}, [])]
    killed, killed_parts = out.read_bytes(), parts.read_bytes()  # as `kill -9` leaves them
    del half  # ends it, as Ctrl-C does
    if name == "r.csv":
        assert read_report(out) == [new, *first[1:]]
        assert len(out.read_text().splitlines()) == 4
        assert len(parts.read_text().splitlines()) == 4
        out.write_bytes(killed)
        parts.write_bytes(killed_parts)
        # what a page is made of
        assert read_report(out) == [new, *first[1:]]
        assert [row.score for row in read_segments(parts)] == [new.score, *few_scores]
    rows = list(rows_into(out, videos[:3], predictor, OTHER, per_segment=parts))
    assert rows[0] == new  # the timing too: it was kept
    assert [row.display for row in rows] == ["320x180"] * 3
    assert read_report(out) == rows
    assert [row.score for row in read_segments(parts)] == [row.score for row in rows]


def test_segments_that_lost_their_row_are_not_those_of_an_earlier_one(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out, parts = tmp_path / "r.csv", tmp_path / "s.csv"
    config = ScoreConfig(None, 0.1)
    (row,) = rows_into(out, videos[:1], predictor, config, per_segment=parts)
    before = parts.read_text()
    header, first, *others = before.splitlines()
    score = first.split(",")[3]
    killed = [first.replace(score, f"{float(score) + 9:.4f}"), *others[:1]]
    parts.write_text("\n".join([header, first, *others, *killed, ""]))
    (again,) = rows_into(out, videos[:1], predictor, config, per_segment=parts)
    assert again == row  # kept, with its own segments
    assert parts.read_text() == before


def test_rows_of_files_that_are_not_given_stay_until_the_end(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    list(rows_into(out, videos[:2], predictor))
    half = rows_into(out, videos[2:4], predictor)
    next(half)
    del half
    assert [row.path for row in read_report(out)] == list(map(str, videos[:3]))
    list(rows_into(out, videos[2:4], predictor))
    assert [row.path for row in read_report(out)] == list(map(str, videos[2:4]))


def test_a_file_by_another_path_is_not_scored_again(
    videos: list[Path], predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, parts, video = tmp_path / "r.csv", tmp_path / "s.csv", videos[0]
    folder, link = video.parent, tmp_path / "link"
    link.symlink_to(folder)
    monkeypatch.chdir(folder.parent)
    (first,) = rows_into(out, [Path(folder.name, video.name)], predictor, per_segment=parts)
    absolute, up, linked = (
        video,
        Path(folder.name, "..", folder.name, video.name),
        link / video.name,
    )
    for path in (absolute, up, linked):
        (row,) = rows_into(out, [path], predictor, per_segment=parts)
        assert row == replace(first, path=str(path))  # the timing too
        assert read_report(out) == [row]
        assert [segment.path for segment in read_segments(parts)] == [str(path)]
    (below,) = rows_into(out, [Path(folder.name, video.name)], predictor)
    monkeypatch.chdir(folder)
    (here,) = rows_into(out, [Path(video.name)], predictor)
    assert here == replace(below, path=video.name)
    copy = Path(shutil.copy2(video, tmp_path))  # with the time of its change
    list(write_report([copy], out, predictor, NATIVE, keeps_others=True))
    assert [row.path for row in read_report(out)] == [video.name, str(copy)]


def test_a_changed_file_by_another_path_has_one_row(
    videos: list[Path], predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its former score stays, beside the new one, with those of files that are not given."""
    out, video = tmp_path / "r.csv", tmp_path / "v.mp4"
    shutil.copy(videos[0], video)
    monkeypatch.chdir(tmp_path)
    list(rows_into(out, [video], predictor))
    shutil.copy(videos[1], video)
    (new,) = write_report([Path("v.mp4")], out, predictor, NATIVE, keeps_others=True)
    assert read_report(out) == [new]
    assert new.size_bytes == video.stat().st_size
