"""Labels of encodes that no ladder made, with ffmpeg: the same figures, resumed, every failure."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from ladder.encode.plan import EncodeRow, encodes_table
from ladder.errors import ListError, TableError
from ladder.label.elsewhere import plan_pairs
from ladder.label.files import LabelFiles
from ladder.label.pairs import Pair, RungBy, pairs_with
from ladder.label.rows import LabelRow
from ladder.label.run import LabelOptions, make_labels, plan_labels
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from ladder.storage import part_of
from tests.conftest import MakeVideo
from tests.ladder.conftest import V0, X264, label_of

PLAIN = LabelOptions(models=(V0,))
VP9 = ("-c:v", "libvpx-vp9", "-b:v", "80k", "-deadline", "realtime", "-pix_fmt", "yuv420p")


@pytest.fixture
def files(tmp_path: Path) -> LabelFiles:
    return LabelFiles.of_table(tmp_path / "labels.csv")


@pytest.fixture
def made(tmp_path: Path, poor: Path, coarse: Path) -> list[Path]:
    """Two encodes of the source, in the folder `made` beside the table."""
    (tmp_path / "made").mkdir()
    return [Path(shutil.copy(path, tmp_path / "made")) for path in (coarse, poor)]


def labels(
    pairs: list[Pair], files: LabelFiles, ffmpeg: Ffmpeg, options: LabelOptions = PLAIN
) -> dict[str, LabelRow]:
    """The new labels by the path of the encode."""
    plan = plan_pairs(pairs, files, options)
    return {row.encode_path: row for row in make_labels(plan, files, ffmpeg, jobs=1)}


def missing(pairs: list[Pair], files: LabelFiles, options: LabelOptions = PLAIN) -> list[str]:
    return [row.key for row in plan_pairs(pairs, files, options).jobs]


def test_a_label_is_the_one_that_a_ladder_gets_and_says_what_the_encode_is(
    tmp_path: Path, source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    rows = labels(list(pairs_with(source_video, made)), files, ffmpeg)

    assert list(rows) == ["made/coarse.mp4", "made/poor.mp4"]
    assert files.table.rows() == list(rows.values())
    assert {path.name for path in tmp_path.iterdir()} == {"labels.csv", "made", "vmaf"}
    (tmp_path / "work").mkdir()
    facts = {"codec", "bitrate_kbps", "modified", "source_path"}  # the ladder knows others
    facts |= {"encode_path", "source", "rung", "label_s", "source_size_bytes", "source_modified"}
    for path, row in zip(made, rows.values(), strict=True):
        of_ladder = label_of(path, source_video, ffmpeg, tmp_path / "work", PLAIN)
        ours, theirs = dataclasses.asdict(row), dataclasses.asdict(of_ladder)
        assert {k: v for k, v in ours.items() if k not in facts} == {
            k: v for k, v in theirs.items() if k not in facts
        }
        info = probe(path)
        assert (row.codec, row.width_px, row.height_px) == ("h264", info.width_px, info.height_px)
        assert (row.display_width_px, row.display_height_px) == (192, 108)
        assert row.fps == 25
        assert (row.duration_s, row.size_bytes) == (0.96, path.stat().st_size)
        assert (row.source, row.source_path) == ("source", str(source_video))
        assert files.log(row.encode_path).is_file()


def test_the_bitrate_is_that_of_the_video_alone(
    source_video: Path, make_video: MakeVideo, files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    silent = make_video("silent.mkv", source_video, ("-crf", "36", *X264))
    sound = ("-f", "lavfi", "-i", "anoisesrc=d=1", "-map", "0:v", "-map", "1:a")
    loud = make_video("loud.mkv", silent, (*sound, "-c:v", "copy", "-c:a", "pcm_s16le"))
    rows = labels(list(pairs_with(source_video, [silent, loud])), files, ffmpeg)
    rates = [row.bitrate_kbps for row in rows.values()]
    assert rates[0] == rates[1]
    assert rates[0] is not None
    assert loud.stat().st_size > 2 * silent.stat().st_size
    assert 0.8 < rates[0] / (silent.stat().st_size * 8 / 1000 / 0.96) < 1


# ---- again


def test_the_same_pairs_again_are_measured_only_if_a_file_was_replaced(
    tmp_path: Path, source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    source = Path(shutil.copy(source_video, tmp_path / "src.mp4"))
    pairs = list(pairs_with(source, made))
    first = labels(pairs[:1], files, ffmpeg)
    assert missing(pairs, files) == ["made/poor.mp4"]
    labels(pairs, files, ffmpeg)
    assert missing(pairs, files) == []
    assert missing(pairs, files, dataclasses.replace(PLAIN, features=("ssim",))) == [
        "made/coarse.mp4",
        "made/poor.mp4",
    ]

    shutil.copy(made[1], made[0])  # another encode under its name
    assert missing(pairs, files) == ["made/coarse.mp4"]
    again = labels(pairs, files, ffmpeg)
    assert again["made/coarse.mp4"].vmaf != first["made/coarse.mp4"].vmaf
    assert missing(pairs, files) == []

    os.utime(source, (1, 1))  # of the same size, but another file
    assert len(missing(pairs, files)) == 2
    assert len(missing([Pair(source_video, made[0])], files)) == 1  # another source


def test_a_log_that_is_needed_and_gone_is_made_again(
    source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    pairs = pairs_with(source_video, made)
    labels(list(pairs), files, ffmpeg)
    files.log("made/poor.mp4").unlink()
    assert plan_pairs(pairs, files, PLAIN).jobs == ()
    assert [row.key for row in plan_pairs(pairs, files, PLAIN, needs_logs=True).jobs] == [
        "made/poor.mp4"
    ]


def test_another_rung_measures_nothing_anew(
    source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    pairs = [Pair(source_video, made[0], "mine"), Pair(source_video, made[1])]
    labels(pairs, files, ffmpeg)
    for by, rung in ((RungBy.HEIGHT, "54p"), (RungBy.FOLDER, "made")):
        plan = plan_pairs(pairs, files, PLAIN, rung_by=by)
        assert plan.jobs == ()
        assert list(make_labels(plan, files, ffmpeg)) == []
        assert [row.rung for row in files.table.rows()] == ["mine", rung]


def test_labels_of_other_encodes_stay_in_the_table(
    source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    for encode in reversed(made):
        labels([Pair(source_video, encode)], files, ffmpeg)
    assert [row.key for row in files.table.rows()] == ["made/coarse.mp4", "made/poor.mp4"]


def test_a_table_of_another_program_is_left_alone(
    source_video: Path, made: list[Path], files: LabelFiles
) -> None:
    files.table_path.write_text("encode,score\na,1\n")
    with pytest.raises(TableError, match="has other columns"):
        plan_pairs(pairs_with(source_video, made), files)
    assert files.table_path.read_text() == "encode,score\na,1\n"


def test_what_another_run_is_writing_elsewhere_below_the_table_is_not_deleted(
    tmp_path: Path, source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    busy, left = part_of(tmp_path / "made" / "busy.mp4"), part_of(files.log("made/poor.mp4"))
    for path in (busy, left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    labels([Pair(source_video, made[0])], files, ffmpeg)
    assert busy.exists()
    assert not left.exists()


# ---- names


def test_two_sources_of_one_name_are_two_sources_and_keep_their_names(
    tmp_path: Path, source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    sources = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        sources.append(Path(shutil.copy(source_video, tmp_path / folder / "src.mp4")))
    pairs = [Pair(source, encode) for source, encode in zip(sources, made, strict=True)]
    names = {row.source for row in labels(pairs, files, ffmpeg).values()}
    assert len(names) == 2
    assert "src" in names
    plan = plan_pairs(reversed(pairs), files, PLAIN)
    assert {row.source for row in plan.done} == names
    assert {row.source_path for row in plan.done} == {"a/src.mp4", "b/src.mp4"}


def test_a_source_of_the_ladder_in_the_same_folder_has_its_name(
    tmp_path: Path, source_video: Path, made: list[Path], files: LabelFiles
) -> None:
    encodes_table(tmp_path).append(
        EncodeRow(
            source="film", source_path=str(source_video), encode_path="film/1.mp4", rung="1",
            codec="libx264", rate_mode=None,
        )
    )  # fmt: skip
    shutil.copy(source_video, tmp_path / "film.mp4")
    plan = plan_pairs([Pair(tmp_path / "film.mp4", made[0])], files, PLAIN)
    (job,) = plan.jobs
    assert job.source.startswith("film-")


def test_files_may_have_any_name(
    tmp_path: Path, source_video: Path, poor: Path, files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    odd = os.fsdecode(b"=caf\xe9 %d 'x', \"y\":[z]\r\n;.mp4")
    source, encode = tmp_path / f"s{odd}", tmp_path / odd
    shutil.copy(source_video, source)
    shutil.copy(poor, encode)
    (row,) = labels([Pair(source, encode)], files, ffmpeg).values()
    assert (row.error, row.encode_path, row.source_path) == ("", odd, f"s{odd}")
    assert missing([Pair(source, encode)], files) == []


# ---- what cannot be labelled


def test_a_pair_that_cannot_be_measured_is_a_row_and_the_others_are_labelled(
    tmp_path: Path, source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    rows = labels(
        [
            Pair(source_video, tmp_path / "gone.mp4"),
            Pair(source_video, text),
            Pair(source_video, made[0]),
            Pair(tmp_path / "no-source.mp4", made[1]),
        ],
        files,
        ffmpeg,
    )
    assert {key: row.status for key, row in rows.items()} == {
        "gone.mp4": "error",
        "text.mp4": "error",
        "made/coarse.mp4": "ok",
        "made/poor.mp4": "error",
    }
    for key, name in (("gone.mp4", "gone"), ("text.mp4", "text"), ("made/poor.mp4", "no-source")):
        assert f"{name}.mp4" in rows[key].error
        assert rows[key].vmaf is None
        assert rows[key].source_path
    assert len(missing([Pair(source_video, text)], files)) == 1  # tried again


def test_an_encode_has_one_source(source_video: Path, made: list[Path], files: LabelFiles) -> None:
    pairs = [Pair(source_video, made[0]), Pair(made[1], made[0])]
    with pytest.raises(ListError, match=r"coarse\.mp4 is paired with .*source.mp4 and with made"):
        plan_pairs(pairs, files)
    assert len(plan_pairs(pairs[:1] * 2, files).jobs) == 1  # named twice


# ---- what encodes of ladders never are


def test_a_cropped_encode_is_warned_of(
    source_video: Path, make_video: MakeVideo, files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    args = ("-vf", "crop=192:80", "-crf", "26", *X264)
    encode = make_video("cropped.mp4", source_video, args)
    (row,) = labels([Pair(source_video, encode)], files, ffmpeg).values()
    assert row.warnings == "aspect:1.78>2.4"


def test_an_interlaced_encode_is_deinterlaced_and_warned_of(
    source_video: Path, make_video: MakeVideo, files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    args = ("-vf", "setfield=tff", "-flags", "+ildct+ilme", "-crf", "20", *X264)
    encode = make_video("interlaced-encode.mp4", source_video, args)
    assert probe(encode).is_interlaced
    (row,) = labels([Pair(source_video, encode)], files, ffmpeg).values()
    assert (row.warnings, row.frames_compared) == ("interlaced", 24)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["late", "vp9", "upright"])
def test_a_pair_has_the_vmaf_that_ffmpeg_quality_metrics_gives(
    source_video: Path,
    late: Path,
    make_video: MakeVideo,
    files: LabelFiles,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    kind: str,
) -> None:
    peer = pytest.importorskip("ffmpeg_quality_metrics")
    upright = ("-vf", "scale=108:192:flags=bicubic,setsar=1", "-crf", "30", *X264)
    encode = {
        "late": late,
        "vp9": make_video("elsewhere.webm", source_video, ("-vf", "scale=128:72", *VP9)),
        "upright": make_video("upright.mp4", source_video, upright),
    }[kind]
    theirs = peer.FfmpegQualityMetrics(
        str(source_video), str(encode), ffmpeg_path=ffmpeg.path, tmp_dir=str(tmp_path)
    )
    model = {"model_path": "vmaf_v0.6.1.json"}
    frames = [frame["vmaf"] for frame in theirs.calculate(["vmaf"], vmaf_options=model)["vmaf"]]
    (row,) = labels([Pair(source_video, encode)], files, ffmpeg).values()
    assert row.frames_compared == len(frames)
    assert row.vmaf == pytest.approx(sum(frames) / len(frames), abs=0.01)


def test_a_work_folder_keeps_labels_of_encodes_made_elsewhere(
    tmp_path: Path, source_video: Path, made: list[Path], files: LabelFiles, ffmpeg: Ffmpeg
) -> None:
    labels([Pair(source_video, made[0])], files, ffmpeg)
    list(make_labels(plan_labels(tmp_path, PLAIN), tmp_path, ffmpeg))
    assert [row.key for row in files.table.rows()] == ["made/coarse.mp4"]
