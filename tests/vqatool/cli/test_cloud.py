"""Videos and reports in object storage, as a user of the command line has them."""

import contextlib
import csv
import pickle
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest

from ladder.media import remote
from ladder.media.discover import FileFilter, find_videos
from ladder.media.probe import probe
from ladder.media.remote import as_path
from tests.object_store import BUCKET, KEY, SECRET, ObjectStore
from tests.vqatool.program import read_rows, vqatool
from vqatool.cli import cli
from vqatool.cli.score import with_hint
from vqatool.errors import ReportError
from vqatool.inference.loading import load_predictor
from vqatool.scoring.report_file import ReportFile, local_file_of
from vqatool.scoring.rows import FileStamp, ReportRow, ScoredSegment, ScoredVideo
from vqatool.scoring.segments import ScoreConfig, decode_first_segments, decode_segments

ROOT = f"s3://{BUCKET}"
HEADERS = {"path", "modified", "score_s"}


@pytest.fixture
def videos(store: ObjectStore, source_video: Path) -> str:
    """A prefix with a video, what is none, and a broken one."""
    for key, content in {
        "in/good.mp4": source_video.read_bytes(),
        "in/bad.mp4": b"dear diary",
        "in/notes.txt": b"x",
    }.items():
        store.put(key, content)
    store.forget()
    return f"{ROOT}/in/"


def remote_rows(url: str) -> dict[str, dict[str, str]]:
    text = as_path(url).read_text(encoding="utf-8")
    return {row["path"].rpartition("/")[2]: row for row in csv.DictReader(text.splitlines())}


def test_a_prefix_is_scored_into_a_report_beside_it_and_the_run_goes_on(
    videos: str, store: ObjectStore, source_video: Path, tmp_path: Path
) -> None:
    out = f"{ROOT}/reports/{tmp_path.name}.csv"
    command = ("score", videos, source_video, "-o", out, "--jobs", 1)
    done = vqatool(*command)
    assert done.exit_code == 4
    rows = remote_rows(out)
    assert list(rows) == ["bad.mp4", "good.mp4", source_video.name]
    assert rows["bad.mp4"]["error_code"] == "not_video"
    there, here = rows["good.mp4"], rows[source_video.name]
    assert {**there, **dict.fromkeys(HEADERS)} == {**here, **dict.fromkeys(HEADERS)}
    assert there["path"] == f"{videos}good.mp4"
    assert there["modified"].startswith('"')  # its ETag
    assert not local_file_of(as_path(out)).exists()
    assert store.put("in/good.mp4", source_video.read_bytes() + bytes(64)) == there["path"]
    assert "1 rows are kept" in vqatool(*command).stderr  # that of the file here


def test_a_run_that_was_killed_before_its_upload_goes_on(
    videos: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{ROOT}/reports/{tmp_path.name}.jsonl"
    command = ("score", f"{videos}good.mp4", "-o", out, "-m", small_model, "--jobs", 1)
    with monkeypatch.context() as patch:
        patch.setattr("vqatool.scoring.report_file.ReportFile.end", lambda file, rows: None)
        assert vqatool(*command).exit_code == 0
    assert as_path(out).read_text() == ""  # of the beginning, which shows that it can be written
    assert "1 rows are kept" in vqatool(*command).stderr
    assert f"{videos}good.mp4" in as_path(out).read_text()


def test_a_report_that_another_run_wrote_meanwhile_is_not_lost(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ReportRow(path=name, status="ok", score=50.0) for name in ("a.mp4", "b.mp4")]
    path = as_path(f"{ROOT}/reports/{tmp_path.name}.csv")
    ours = ReportFile(path, ReportRow)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(tmp_path / "other machine"))
        theirs = ReportFile(path, ReportRow)
    ours.begin([])
    ours.append(rows[0])
    theirs.end(rows[1:])
    with pytest.raises(ReportError, match="another run"):
        ours.end(rows[:1])
    assert {row.path for row in ReportFile(path, ReportRow).known()} == {"a.mp4", "b.mp4"}


def test_parts_and_a_page_are_written_to_a_bucket(
    videos: str, small_model: Path, tmp_path: Path, store: ObjectStore
) -> None:
    folder = f"{ROOT}/reports/{tmp_path.name}/"
    command = ("score", f"{videos}good.mp4", "-o", folder, "-m", small_model, "--jobs", 1)
    theirs = store.put(f"reports/{tmp_path.name}/part-[1].parquet", b"of another program")
    done = vqatool(*command)
    assert done.exit_code == 2
    assert "has parts of another program" in done.stderr
    as_path(theirs).unlink()
    store.put(f"reports/{tmp_path.name}/notes.txt", b"x")
    assert vqatool(*command).exit_code == 0
    part = as_path(f"{folder}part-00000.parquet")
    with part.open("rb") as file:
        assert list(pd.read_parquet(file).path) == [f"{videos}good.mp4"]
    page = f"{folder}page.html"
    done = vqatool("report", folder, "-o", page, "--jobs", 1)
    assert done.exit_code == 0, done.stderr
    key = page.removeprefix(f"{ROOT}/")
    assert store.client.head_object(Bucket=BUCKET, Key=key)["ContentType"] == "text/html"
    text = as_path(page).read_text(encoding="utf-8")
    assert f'href="{videos}good.mp4' in text
    assert "data:image/jpeg" in text
    why = tmp_path / "why.html"
    done = vqatool("explain", f"{videos}good.mp4", "-o", why, "-m", small_model, "--jobs", 1)
    assert done.exit_code == 0, done.stderr
    assert "data:image/jpeg" in why.read_text(encoding="utf-8")


def test_a_flaky_server_costs_no_row(
    videos: str, store: ObjectStore, source_video: Path, small_model: Path, tmp_path: Path
) -> None:
    faults = ["503", "", "cut", "", "slow", ""]

    def fault(number: int, environ: dict[str, Any]) -> str:
        found = faults[(number - 1) % len(faults)]
        return "" if found == "cut" and environ["REQUEST_METHOD"] != "GET" else found

    store.fault, store.slow_s = fault, 0.05
    out = tmp_path / "r.csv"
    command = ("score", f"{videos}good.mp4", source_video, "-o", out, "-m", small_model)
    done = vqatool(*command, "--jobs", 1)
    assert done.exit_code == 0, done.stderr
    there, here = read_rows(out)
    assert {**there, **dict.fromkeys(HEADERS)} == {**here, **dict.fromkeys(HEADERS)}
    assert store.faults["503"]


def test_parts_of_one_video_are_of_one_version(
    videos: str, store: ObjectStore, source_video: Path
) -> None:
    def sent(path: Path) -> Path:
        remote._block.cache_clear()  # as in the process of another worker
        again: Path = pickle.loads(pickle.dumps(path))
        return again

    config, preprocessor = ScoreConfig(display=None), load_predictor(None, "cpu").preprocessor
    (listed, *_) = find_videos([as_path(videos)], FileFilter(["good*"])).videos
    store.put("in/good.mp4", source_video.read_bytes() + bytes(64))
    first = decode_first_segments(sent(listed), preprocessor, config)
    assert not first.failure  # what was listed is gone, and what is there now is read
    assert first.info
    assert first.stamp == FileStamp.of(as_path(str(listed)))
    store.forget()
    args = (first.stamp, replace(first.info, path=sent(first.info.path)), 0, preprocessor, config)
    assert decode_segments(sent(first.path), *args).segments[0].views
    assert not store.requests["HEAD"]
    store.put("in/good.mp4", source_video.read_bytes())
    remote._block.cache_clear()
    failure = decode_segments(sent(first.path), *args).failure
    assert failure
    assert (failure.code, "changed while it was read" in failure.reason) == ("remote", True)


def test_wrong_credentials_are_one_error_without_them(
    videos: str, store: ObjectStore, tmp_path: Path
) -> None:
    def set_unchecked(count: str) -> None:
        url, plain = f"{store.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, count.encode(), plain)).close()

    log = tmp_path / "run.log"
    set_unchecked("0")
    try:
        for named in ([videos], [f"{videos}good.mp4", f"{videos}bad.mp4"]):
            done = vqatool("score", *named, "-o", tmp_path / "r.csv", "-vv", "--log", log)
            assert done.exit_code == 2
            assert sum(line.startswith("Error: ") for line in done.stderr.splitlines()) == 1
            assert "the credentials are not valid (InvalidAccessKeyId): set AWS_" in done.stderr
            told = done.output + done.stderr + log.read_text()
            assert KEY not in told
            assert SECRET not in told
    finally:
        set_unchecked("inf")
    assert not (tmp_path / "r.csv").exists()


def test_a_signed_url_is_told_without_its_signature(tmp_path: Path) -> None:
    url = "https://host/film.mp4?X-Amz-Signature=s3cret"
    done = vqatool("score", url, "--exclude", "*.mp4", "-o", tmp_path / "r.csv")
    assert done.exit_code == 5
    assert "no video found in https://host/film.mp4\n" in done.stderr
    assert "s3cret" not in done.output + done.stderr


def test_a_bucket_that_is_not_there_is_told_before_any_work(
    store: ObjectStore, source_video: Path
) -> None:
    done = vqatool("score", source_video, "-o", "s3://no-such-bucket/r.csv", "--jobs", 1)
    assert done.exit_code == 2
    assert "s3://no-such-bucket/r.csv" in done.stderr


def test_remote_sources_and_encodes_are_labelled_as_local_ones(
    store: ObjectStore, source_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = store.put("src/film.mp4", source_video)
    store.forget()
    ladder = tmp_path / "rungs.toml"
    ladder.write_text("[[rung]]\nheight_px = 90\ncrf = 30\n")
    done = vqatool("ladder", source, "--rungs", ladder, "-o", "w", "--jobs", 1)
    assert done.exit_code == 0, done.stderr
    (row,) = read_rows(tmp_path / "w" / "encodes.csv")
    assert row["source_path"] == source
    assert "1 encodes exist" in vqatool("ladder", source, "--rungs", ladder, "-o", "w").stderr
    assert vqatool("label", "w", "--vmaf-model", "v0", "--jobs", 1).exit_code == 0
    (of_ladder,) = read_rows(tmp_path / "w" / "labels.csv")
    shutil.copy(tmp_path / "w" / row["encode_path"], tmp_path / "film_90p.mp4")
    encode = store.put("made/film_90p.mp4", tmp_path / "film_90p.mp4")
    shutil.copy(source_video, tmp_path / "film.mp4")
    plain = ("--vmaf-model", "v0", "--jobs", 1, "-o")
    pairs = ("--source", f"{ROOT}/src/", f"{ROOT}/made/", "--match", "{stem}_*")
    done = vqatool("label", *pairs, *plain, "there.csv")
    assert done.exit_code == 0, done.stderr
    done = vqatool("label", "--source", "film.mp4", "film_90p.mp4", *plain, "here.csv")
    assert done.exit_code == 0, done.stderr
    (there,), (here,) = read_rows(tmp_path / "there.csv"), read_rows(tmp_path / "here.csv")
    assert (there["encode_path"], there["source_path"]) == (encode, source)
    assert there["vmaf"] == here["vmaf"] == of_ladder["vmaf"]
    assert "1 labels exist" in vqatool("label", *pairs, *plain, "there.csv").stderr
    assert "s3:" not in {path.name for path in tmp_path.iterdir()}


def commands_of(command: click.Command) -> Iterator[click.Command]:
    for each in getattr(command, "commands", {}).values():
        yield from commands_of(each)
    yield command


def test_a_url_is_never_the_name_of_something_here(tmp_path: Path) -> None:
    types = [param.type for each in commands_of(cli) for param in each.params]
    paths = [each for each in types if isinstance(each, click.Path)]
    assert len(paths) > 50
    url = "memory://b/x.csv"
    for each in paths:
        with contextlib.suppress(click.BadParameter):
            assert each.convert(url, None, None) == as_path(url)
    done = vqatool("train", tmp_path, "-o", "s3://bucket/model.safetensors")
    assert done.exit_code == 2
    assert "name a place here" in done.stderr


def test_a_long_remote_video_leads_to_one_hint_at_samples(
    source_video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = replace(probe(source_video), duration_s=600.0, size_bytes=50_000_000)
    segments = (ScoredSegment(0, 10, 50.0, 5.0, ()),) * 60
    stamp = FileStamp.of(source_video)

    def score(path: Path, **more: Any) -> ScoredVideo:
        return ScoredVideo(
            path=path,
            stamp=stamp,
            info=info,
            segments=segments,
            warnings=(),
            frames_scored=480,
            spent_s=1.0,
            **more,
        )

    long = as_path("s3://b/a.mp4")
    short = replace(score(long), segments=segments[:9])
    quiet = [score(source_video), score(long, sampled="6/60"), short]
    for results, count in ((quiet, 0), ([*quiet, score(long), score(long)], 1)):
        scoring = with_hint(lambda *_, results=results: iter(results))
        assert list(scoring([], None, None)) == results  # type: ignore[arg-type]
        assert capsys.readouterr().err.count("--sample 12 fetches about 13 MB") == count


def test_a_watch_scores_what_arrives_in_a_bucket(
    videos: str, small_model: Path, tmp_path: Path
) -> None:
    out = f"{ROOT}/reports/{tmp_path.name}-watch.csv"
    command = ["watch", videos, "-o", out, "-m", small_model, "--once", "--settle", 0, "--jobs", 1]
    done = vqatool(*command, "--exclude", "bad*")
    assert done.exit_code == 0, done.stderr
    assert f"{videos}good.mp4: " in done.stderr
    assert set(remote_rows(out)) == {"good.mp4"}
    assert "good.mp4: " not in vqatool(*command).stderr  # its row is kept
    assert {name: row["status"] for name, row in remote_rows(out).items()} == {
        "good.mp4": "ok",
        "bad.mp4": "error",
    }
