"""Stage 2: labels of real work folders, in every way they went wrong."""

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import pytest

from ladder.errors import CapabilityError, FfmpegError
from ladder.ffmpeg import Ffmpeg
from ladder.label import labels_table, make_labels, plan_labels
from ladder.probe import probe
from ladder.tables import EncodeRow, LabelRow
from ladder.transcode import encodes_table
from ladder.vmaf import Pairing, measure, parse_log, pool
from tests.conftest import EXACT, MakeVideo
from tests.ladder.conftest import NEG, V0, X264, vmaf

SAME = Pairing(frames_source=24, frames_encode=24)


def work_folder(folder: Path, source: Path, encodes: dict[str, Path]) -> Path:
    """A work folder as `ladder` leaves it, with the encodes given by name."""
    table = encodes_table(folder)
    (folder / "clip").mkdir(parents=True)
    for name, encode in encodes.items():
        (folder / "clip" / f"{name}.mp4").write_bytes(encode.read_bytes())
        table.append(
            EncodeRow(
                source="clip",
                source_path=str(source),
                encode_path=f"clip/{name}.mp4",
                rung=name,
                codec="libx264",
                rate_mode="crf",
                size_bytes=encode.stat().st_size,
            )
        )
    return folder


def label(folder: Path, ffmpeg: Ffmpeg, *models: str, **options: Any) -> dict[str, LabelRow]:
    names = models or (V0,)
    plan = plan_labels(folder, names)
    return {row.rung: row for row in make_labels(plan, folder, ffmpeg, names, jobs=1, **options)}


def test_every_encode_gets_a_full_label_and_a_second_plan_has_nothing_to_do(
    tmp_path: Path, poor: Path, coarse: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor, "coarse": coarse})
    assert len(plan_labels(folder, [V0]).jobs) == 2
    told: dict[str, float] = {}

    rows = label(folder, ffmpeg, V0, NEG, on_progress=told.__setitem__)

    for name, row in rows.items():
        assert (row.status, row.error, row.warnings) == ("ok", "", "")
        assert row.key == row.encode_path == f"clip/{name}.mp4"
        assert row.source == "clip"
        assert (row.frames_source, row.frames_encode, row.frames_compared) == (24, 24, 24)
        assert (row.pairing, row.scale, row.pix_fmt) == ("index", "192x108 bicubic", "yuv420p")
        assert row.vmaf_model == V0
        assert row.libvmaf_version
        assert row.vmaf_min is not None
        assert row.vmaf_p1 is not None
        assert row.vmaf_p5 is not None
        assert row.vmaf is not None
        assert row.vmaf_neg is not None
        assert 0 < row.vmaf_min <= row.vmaf_p1 <= row.vmaf_p5 <= row.vmaf < 100
        assert row.vmaf_neg <= row.vmaf
        assert row.vmaf_v1 is None
        assert row.psnr_y is not None
        assert 15 < row.psnr_y < 50
        log = gzip.decompress((folder / "vmaf" / "clip" / f"{name}.mp4.json.gz").read_bytes())
        mean = pool(parse_log(log.decode()).metrics["vmaf_v0_6_1"]).mean
        assert row.vmaf == pytest.approx(mean, abs=1e-4)
    assert rows["poor"].vmaf == pytest.approx(vmaf(poor, source_video, ffmpeg), abs=1e-3)
    assert sorted(rows.values(), key=lambda row: row.key) == labels_table(folder).rows()
    assert set(told) == {row.key for row in rows.values()}
    assert not list(folder.rglob("*.part"))

    plan = plan_labels(folder, [V0, NEG])
    assert plan.jobs == ()
    assert {row.key for row in plan.done} == {"clip/poor.mp4", "clip/coarse.mp4"}
    keys = [row.key for row in labels_table(folder).rows()]
    assert keys == ["clip/coarse.mp4", "clip/poor.mp4"]
    before = (folder / "labels.csv").read_bytes()
    assert label(folder, ffmpeg, V0, NEG) == {}
    assert (folder / "labels.csv").read_bytes() == before


def test_a_label_by_another_model_or_one_model_more_is_made_anew(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    first = label(folder, ffmpeg)["poor"]
    assert plan_labels(folder, [V0]).jobs == ()
    assert len(plan_labels(folder, [NEG]).jobs) == 1
    assert len(plan_labels(folder, [V0, NEG]).jobs) == 1
    both = label(folder, ffmpeg, V0, NEG)["poor"]
    assert both.vmaf == pytest.approx(first.vmaf, abs=1e-3)
    assert plan_labels(folder, [V0]).jobs == ()
    assert len(labels_table(folder).rows()) == 1


def test_an_encode_that_was_made_again_is_labelled_again(
    tmp_path: Path, poor: Path, coarse: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    label(folder, ffmpeg)
    (folder / "clip" / "poor.mp4").write_bytes(coarse.read_bytes())
    encodes = encodes_table(folder)
    (row,) = encodes.rows()
    encodes.append(dataclasses.replace(row, size_bytes=coarse.stat().st_size, bitrate_kbps=123.0))
    assert len(plan_labels(folder, [V0]).jobs) == 1


def test_an_encode_that_failed_is_not_labelled(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    (row,) = encodes_table(folder).rows()
    encodes_table(folder).append(dataclasses.replace(row, status="error", error="disk full"))
    assert plan_labels(folder, [V0]).jobs == ()


def assert_is_error_row(row: LabelRow) -> None:
    assert row.status == "error"
    assert row.error
    figures = dataclasses.asdict(row)
    empty = [name for name in figures if name.startswith(("vmaf", "psnr")) and name != "vmaf_model"]
    assert {figures[name] for name in empty} == {None}


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no bytes"), (b"text\n" * 99, "cannot be opened"), (None, "not a file")],
)
def test_an_encode_that_cannot_be_read_is_an_error_row_and_the_others_are_labelled(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg, content: bytes | None, says: str
) -> None:
    folder = work_folder(tmp_path, source_video, {"bad": poor, "poor": poor})
    if content is None:
        (folder / "clip" / "bad.mp4").unlink()
    else:
        (folder / "clip" / "bad.mp4").write_bytes(content)
    rows = label(folder, ffmpeg)
    assert_is_error_row(rows["bad"])
    assert says in rows["bad"].error
    assert rows["poor"].status == "ok"
    in_file = {row.rung: row for row in labels_table(folder).rows()}
    assert_is_error_row(in_file["bad"])
    assert ",0.0000," not in (folder / "labels.csv").read_text().splitlines()[1]
    assert [row.rung for row in plan_labels(folder, [V0]).jobs] == ["bad"]  # tried again


def test_an_encode_that_breaks_off_is_not_labelled_by_its_readable_part(
    tmp_path: Path, make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    args = ("-crf", "20", "-movflags", "+faststart", *X264)
    encode = make_video("index-in-front.mp4", source_video, args)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(encode.read_bytes()[: encode.stat().st_size * 6 // 10])
    folder = work_folder(tmp_path / "work", source_video, {"cut": cut})
    assert_is_error_row(label(folder, ffmpeg)["cut"])
    with pytest.raises(FfmpegError):
        measure(probe(cut), probe(source_video), SAME, [V0], ffmpeg)


def test_a_missing_source_is_an_error_row(tmp_path: Path, poor: Path, ffmpeg: Ffmpeg) -> None:
    folder = work_folder(tmp_path, tmp_path / "gone.mp4", {"poor": poor})
    row = label(folder, ffmpeg)["poor"]
    assert_is_error_row(row)
    assert "gone.mp4" in row.error


def test_different_frame_counts_are_paired_by_time_and_warned_of(
    tmp_path: Path, make_video: MakeVideo, source_video: Path, late: Path, ffmpeg: Ffmpeg
) -> None:
    short = make_video("short-encode.mp4", source_video, ("-frames:v", "19", "-crf", "26", *X264))
    folder = work_folder(tmp_path, source_video, {"short": short, "late": late})
    rows = label(folder, ffmpeg)
    assert rows["short"].pairing == "time"
    assert (rows["short"].frames_source, rows["short"].frames_encode) == (24, 19)
    assert rows["short"].warnings == "frame_count:-5"
    assert rows["short"].frames_compared == 19
    assert rows["late"].pairing == "time"
    assert rows["late"].warnings == "shifted:-1"  # one frame is within the tolerance


def test_a_shift_with_equal_counts_is_warned_of(
    tmp_path: Path, make_video: MakeVideo, source_video: Path, late: Path, ffmpeg: Ffmpeg
) -> None:
    source = make_video("first-23.mp4", source_video, ("-frames:v", "23", *EXACT))
    folder = work_folder(tmp_path, source, {"late": late})
    row = label(folder, ffmpeg)["late"]
    assert (row.pairing, row.warnings) == ("index", "shifted:-1")


def test_hdr_against_sdr_is_refused_as_an_error_row(
    tmp_path: Path, make_video: MakeVideo, source_video: Path, poor: Path, ffmpeg: Ffmpeg
) -> None:
    tags = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"
    args = ("-vf", tags, "-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-crf", "20")
    hdr = make_video("hdr-encode.mp4", source_video, args)
    folder = work_folder(tmp_path, source_video, {"hdr": hdr, "poor": poor})
    rows = label(folder, ffmpeg)
    assert_is_error_row(rows["hdr"])
    assert "pq against SDR" in rows["hdr"].error
    assert rows["poor"].status == "ok"


def test_a_model_that_does_not_run_is_said_before_anything_is_measured(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    with pytest.raises(CapabilityError, match="--vmaf-model"):
        label(folder, ffmpeg, "vmaf_v9.9.9")
    assert not (folder / "labels.csv").exists()


def test_subsampled_labels_stay_close_and_say_what_was_compared(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    row = label(folder, ffmpeg, subsample=5)["poor"]
    assert row.vmaf == pytest.approx(vmaf(poor, source_video, ffmpeg), abs=5)
    assert row.frames_compared == 5


def test_a_pair_labelled_twice_leaves_the_same_files(
    source_video: Path, poor: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    logs = []
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        folder = work_folder(tmp_path / name, source_video, {"poor": poor})
        label(folder, ffmpeg, V0)
        logs.append((folder / "vmaf" / "clip" / "poor.mp4.json.gz").read_bytes())
    assert logs[0] == logs[1]
