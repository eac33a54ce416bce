import csv
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor

from ladder import Ffmpeg
from ladder.ffmpeg import run
from vqatool.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from vqatool.clips import Clip
from vqatool.demo import demo_clip
from vqatool.errors import ReportError
from vqatool.live import run_score
from vqatool.predict import Predictor
from vqatool.score import ReportRow, ScoreOptions, report_table, write_report

NATIVE = ScoreOptions(display=None)


@pytest.fixture(scope="module")
def predictor(small_model: Path) -> Predictor:
    return Predictor(load_checkpoint(small_model), "cpu")


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
    rows = list(write_report(given, predictor, NATIVE, out))
    assert [row.path for row in report_table(out).rows()] == list(map(str, given))
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
        assert row.frames_scored == 2
        assert row.model == predictor.name


def test_a_bad_file_is_a_row_without_figures(
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
    rows = {row.path: row for row in write_report(mixed, predictor, NATIVE, tmp_path / "r.csv")}
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
    list(write_report(videos, predictor, NATIVE, out))
    before = out.read_bytes()
    list(write_report(videos, predictor, NATIVE, out))
    assert out.read_bytes() == before  # the timings too


def test_a_changed_file_is_scored_again(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    first = {row.path: row for row in write_report(videos, predictor, NATIVE, out)}
    videos[0].write_bytes(videos[1].read_bytes())
    second = {row.path: row for row in write_report(videos, predictor, NATIVE, out)}
    changed = [path for path, row in first.items() if row != second[path]]
    assert changed == [str(videos[0])]


def test_another_display_is_scored_again(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    list(write_report(videos[:1], predictor, NATIVE, out))
    (row,) = write_report(videos[:1], predictor, ScoreOptions(display=(320, 180)), out)
    assert row.display == "320x180"


def test_other_segments_are_scored_again(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    (whole,) = write_report(videos[:1], predictor, ScoreOptions(None, 10), out)
    (parts,) = write_report(videos[:1], predictor, ScoreOptions(None, 0.2), out)
    assert whole.frames_scored == 2
    assert parts.frames_scored is not None
    assert parts.frames_scored > 2
    (alike,) = write_report(videos[:1], predictor, ScoreOptions(None, 0.21), out)
    assert alike == parts  # as many segments are the same segments


FOREIGN = {
    "table": b"name,price\nx,1\ny,2",
    "one line": b"dear diary",
    "binary": bytes(range(256)) * 8,
    "blank line": b"\n",
}


@pytest.mark.parametrize("is_forced", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_no_report_is_refused_and_left_as_it_is(
    name: str, is_forced: bool, videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    out.write_bytes(FOREIGN[name])
    with pytest.raises(ReportError, match=r"r\.csv"):
        list(write_report(videos[:1], predictor, NATIVE, out, is_forced=is_forced))
    assert out.read_bytes() == FOREIGN[name]
    assert not list(tmp_path.glob("*.part"))


def test_an_empty_file_may_become_a_report(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    out.touch()
    (row,) = write_report(videos[:1], predictor, NATIVE, out)
    assert report_table(out).rows() == [row]


def test_a_report_holds_the_inputs_of_the_latest_run(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    list(write_report(videos, predictor, NATIVE, out))
    list(write_report(videos[:2], predictor, NATIVE, out))
    assert [row.path for row in report_table(out).rows()] == list(map(str, videos[:2]))


@pytest.mark.parametrize("done", range(1, 4))
def test_an_interrupted_report_ends_like_a_whole_one(
    done: int, videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    list(write_report(videos, predictor, NATIVE, whole))
    half: Iterator[ReportRow] = write_report(videos, predictor, NATIVE, broken)
    list(itertools.islice(half, done))
    del half  # the generator's end, as a kill, rewrites nothing
    with broken.open("a") as file:
        file.write('"torn,li')
    list(write_report(videos, predictor, NATIVE, broken))
    assert without_time(broken) == without_time(whole)


def test_jobs_do_not_change_the_report(
    videos: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    reports = []
    for jobs in (1, 4):
        out = tmp_path / f"{jobs}.csv"
        list(write_report(videos, predictor, NATIVE, out, jobs=jobs))
        reports.append(without_time(out))
    assert reports[0] == reports[1]


class Meeting(Predictor):
    """Looks at a clip only when as many others are being looked at, at once."""

    def __init__(self, checkpoint: Checkpoint, parties: int) -> None:
        super().__init__(checkpoint, "cpu")
        self._barrier = threading.Barrier(parties, timeout=20)

    def see(self, clip: Clip) -> list[Tensor]:
        self._barrier.wait()
        return super().see(clip)


def test_as_many_videos_are_decoded_at_once_as_there_are_cores(
    videos: list[Path], small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    meeting = Meeting(load_checkpoint(small_model), 3)
    assert len(run_score(videos[:3], meeting, NATIVE, tmp_path / "r.csv")) == 3


def test_a_long_video_is_scored_in_segments(
    ffmpeg: Ffmpeg, predictor: Predictor, tmp_path: Path
) -> None:
    clip = tmp_path / "worse.mp4"
    # sharp for three seconds, then a blur
    blur = "testsrc2=s=160x90:r=10:d=6,gblur=8:enable='gte(t,3)'"
    run(ffmpeg, ["-f", "lavfi", "-i", blur, "-crf", "5", "-pix_fmt", "yuv420p", str(clip)])
    options = ScoreOptions(display=None, segment_s=1.0)
    (row,) = write_report([clip], predictor, options, tmp_path / "r.csv")
    assert row.frames_scored == 12
    assert row.score is not None
    assert row.score_min is not None
    assert row.score_p5 is not None
    assert row.score_min <= row.score_p5 <= row.score
    assert row.score_min < row.score
    assert row.worst_at_s in {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}


@pytest.mark.parametrize(
    "picture", ["nullsrc=s=640x360:r=25,geq=random(1)*255:128:128", "color=black:s=640x360"]
)
def test_the_packaged_model_knows_what_is_no_film(
    ffmpeg: Ffmpeg, tmp_path: Path, picture: str
) -> None:
    path = tmp_path / "odd.mp4"
    run(ffmpeg, ["-f", "lavfi", "-i", picture, "-frames:v", "30", "-pix_fmt", "yuv420p", str(path)])
    predictor = Predictor(default_checkpoint(), "cpu")
    (row,) = write_report([path], predictor, NATIVE, tmp_path / "report.csv")
    assert "out_of_domain" in row.warnings.split(";")


def test_the_packaged_model_knows_films(tmp_path: Path) -> None:
    clips = [demo_clip(), demo_clip().with_name("bikes.mp4")]
    predictor = Predictor(default_checkpoint(), "cpu")
    rows = list(write_report(clips, predictor, NATIVE, tmp_path / "report.csv"))
    assert ["out_of_domain" in row.warnings for row in rows] == [False, False]
