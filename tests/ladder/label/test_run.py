"""Stage 2 with ffmpeg: labels of work folders, and every failure of one encode."""

import dataclasses
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ladder.encode.plan import encodes_table
from ladder.encode.rungs import Rung
from ladder.errors import CapabilityError
from ladder.label.libvmaf import parse_log, pool
from ladder.label.metrics import METRICS
from ladder.label.rows import LabelRow, labels_table
from ladder.label.run import LabelOptions, make_labels, plan_labels
from ladder.media.ffmpeg import Ffmpeg
from ladder.storage import Status
from tests.conftest import EXACT, MakeVideo
from tests.ladder.conftest import (
    NEG,
    V0,
    X264,
    label,
    label_of,
    vmaf,
    work_folder,
)
from tests.ladder.works import made

PLAIN = LabelOptions(models=(V0,))


def test_every_encode_gets_a_full_label_and_a_second_plan_has_nothing_to_do(
    tmp_path: Path, poor: Path, coarse: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor, "coarse": coarse})
    assert len(plan_labels(folder).jobs) == 2
    told: dict[str, float] = {}

    rows = label(folder, ffmpeg, LabelOptions(), on_progress=told.__setitem__)

    for name, row in rows.items():
        assert (row.status, row.error, row.warnings) == ("ok", "", "")
        assert row.key == row.encode_path == f"clip/{name}.mp4"
        assert row.source == "clip"
        assert (row.frames_source, row.frames_encode, row.frames_compared) == (24, 24, 24)
        assert (row.pairing, row.scale, row.pix_fmt) == ("index", "192x108 bicubic", "yuv420p")
        assert (row.vmaf_model, row.offset_frames, row.subsample) == (V0, 0, 1)
        assert row.libvmaf_version
        assert row.vmaf_min is not None
        assert row.vmaf_p1 is not None
        assert row.vmaf_p5 is not None
        assert row.vmaf_p10 is not None
        assert row.vmaf is not None
        assert row.vmaf_neg is not None
        assert 0 < row.vmaf_min <= row.vmaf_p1 <= row.vmaf_p5 <= row.vmaf_p10 <= row.vmaf < 100
        assert row.vmaf_neg <= row.vmaf
        assert (row.vmaf_v1, row.vmaf_4k, row.vmaf_phone, row.ssim, row.cambi) == (None,) * 5
        assert row.psnr_y is not None
        assert 15 < row.psnr_y < 50
        log = gzip.decompress((folder / "vmaf" / "clip" / f"{name}.mp4.json.gz").read_bytes())
        frames = parse_log(log.decode()).metrics["vmaf_v0_6_1"]
        for got, due in zip(
            dataclasses.astuple(pool(frames)),
            (row.vmaf, row.vmaf_hmean, row.vmaf_min, row.vmaf_p1, row.vmaf_p5, row.vmaf_p10),
            strict=False,
        ):
            assert got == pytest.approx(due, abs=1e-4)
        assert row.vmaf_std == pytest.approx(pool(frames).std, abs=1e-4)
    assert rows["poor"].vmaf == pytest.approx(vmaf(poor, source_video, ffmpeg), abs=1e-3)
    assert rows["poor"].vmaf_neg == pytest.approx(vmaf(poor, source_video, ffmpeg, NEG), abs=1e-3)
    assert sorted(rows.values(), key=lambda row: row.key) == labels_table(folder).rows()
    assert set(told) == {row.key for row in rows.values()}
    assert not list(folder.rglob("*.part"))

    plan = plan_labels(folder)
    assert plan.jobs == ()
    assert {row.key for row in plan.done} == {"clip/poor.mp4", "clip/coarse.mp4"}
    keys = [row.key for row in labels_table(folder).rows()]
    assert keys == ["clip/coarse.mp4", "clip/poor.mp4"]
    before = (folder / "labels.csv").read_bytes()
    assert label(folder, ffmpeg, LabelOptions()) == {}
    assert (folder / "labels.csv").read_bytes() == before


# ---- what was asked for


def test_a_label_that_lacks_a_metric_is_made_again(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})

    def lacks(**options: Any) -> bool:
        return bool(plan_labels(folder, dataclasses.replace(PLAIN, **options)).jobs)

    first = label(folder, ffmpeg)["poor"]
    assert not lacks()
    assert not lacks(sync=True)  # nothing was shifted
    for models in ((NEG,), (V0, NEG), ("auto",)):
        assert lacks(models=models), models
    assert lacks(features=("ssim",))
    assert lacks(subsample=3)

    both = label(folder, ffmpeg, LabelOptions(features=("ssim",)))["poor"]
    assert both.vmaf == pytest.approx(first.vmaf, abs=1e-3)
    assert both.ssim is not None
    assert 0.3 < both.ssim < 1
    for models in ((V0,), ("auto",), (V0, NEG)):
        assert not lacks(models=models), models  # a label may hold more
    assert not lacks(features=("ssim",))
    assert lacks(features=("ssim", "cambi"))
    assert lacks(models=(NEG, V0))  # the column vmaf is the first one's
    assert len(labels_table(folder).rows()) == 1


def test_a_label_with_another_subsampling_is_made_again(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    fifth = dataclasses.replace(PLAIN, subsample=5)
    row = label(folder, ffmpeg, fifth)["poor"]
    assert row.vmaf == pytest.approx(vmaf(poor, source_video, ffmpeg), abs=5)
    assert (row.frames_compared, row.subsample) == (5, 5)
    assert plan_labels(folder, fifth).jobs == ()
    assert len(plan_labels(folder, PLAIN).jobs) == 1


def test_sync_makes_only_labels_with_an_offset_again(
    tmp_path: Path, late: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"late": late, "poor": poor})
    synced = dataclasses.replace(PLAIN, sync=True)
    label(folder, ffmpeg)
    assert [row.rung for row in plan_labels(folder, synced).jobs] == ["late"]
    assert label(folder, ffmpeg, synced)["late"].warnings == "synced:-1"
    assert plan_labels(folder, synced).jobs == ()
    assert [row.rung for row in plan_labels(folder, PLAIN).jobs] == ["late"]


def test_only_the_named_encodes_are_planned(
    tmp_path: Path, poor: Path, coarse: Path, source_video: Path
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor, "coarse": coarse})
    plan = plan_labels(folder, PLAIN, ["clip/coarse.mp4"])
    assert [row.rung for row in plan.jobs] == ["coarse"]


def test_a_new_encode_of_a_rung_is_labelled_again(
    tmp_path: Path, poor: Path, coarse: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    label(folder, ffmpeg)
    (folder / "clip" / "poor.mp4").write_bytes(coarse.read_bytes())
    encodes = encodes_table(folder)
    (row,) = encodes.rows()
    encodes.append(dataclasses.replace(row, size_bytes=coarse.stat().st_size, bitrate_kbps=123.0))
    assert len(plan_labels(folder, PLAIN).jobs) == 1


def test_an_encode_that_failed_is_not_labelled(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    (row,) = encodes_table(folder).rows()
    encodes_table(folder).append(dataclasses.replace(row, status=Status.ERROR, error="disk full"))
    assert plan_labels(folder, PLAIN).jobs == ()


# ---- models


@pytest.mark.slow
def test_a_source_above_1440_lines_gets_the_4k_models(
    tmp_path: Path, make_video: MakeVideo, ffmpeg: Ffmpeg
) -> None:
    scene = "mandelbrot=size=384x216:rate=25:start_scale=0.6,scale=3840:2160:flags=neighbor"
    source = make_video("uhd.mp4", scene, ("-frames:v", "1", *EXACT))
    encode = make_video("uhd-encode.mp4", source, ("-vf", "scale=640:360", "-crf", "36", *X264))
    row = label_of(encode, source, ffmpeg, tmp_path, LabelOptions())
    assert (row.status, row.scale) == ("ok", "3840x2160 bicubic")
    assert row.vmaf_model == METRICS["4k"].libvmaf_name
    assert row.vmaf == row.vmaf_4k
    assert row.vmaf_4k is not None
    assert row.vmaf_neg is not None
    assert row.vmaf_neg < row.vmaf_4k
    assert row.vmaf_4k == pytest.approx(
        vmaf(encode, source, ffmpeg, METRICS["4k"].libvmaf_name), abs=1e-3
    )


def test_the_phone_model_fills_its_column_without_a_warning(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    # far above the NEG variant of the plain model, which says nothing of sharpening
    options = LabelOptions(models=(METRICS["phone"].libvmaf_name, "auto"))
    row = label_of(poor, source_video, ffmpeg, tmp_path, options)
    assert row.error == ""
    assert row.vmaf == row.vmaf_phone
    assert row.vmaf_phone is not None
    assert row.vmaf_neg is not None
    assert row.vmaf_phone > row.vmaf_neg + 6
    assert row.warnings == ""


def test_more_models_and_features_fill_their_columns(
    tmp_path: Path, make_video: MakeVideo, ffmpeg: Ffmpeg
) -> None:
    scene = "mandelbrot=size=320x180:rate=25:start_scale=0.6:end_pts=60"
    source = make_video("larger.mp4", scene, ("-frames:v", "5", "-crf", "4", *X264))
    encode = make_video("larger-encode.mp4", source, ("-crf", "33", *X264))
    options = LabelOptions(models=("auto", METRICS["v1"].libvmaf_name), features=("ssim", "cambi"))
    row = label_of(encode, source, ffmpeg, tmp_path, options)
    assert (row.error, row.pix_fmt) == ("", "yuv420p10le")
    assert row.vmaf_v1 == pytest.approx(
        vmaf(encode, source, ffmpeg, METRICS["v1"].libvmaf_name), abs=1e-3
    )
    assert row.vmaf_v1 != row.vmaf
    assert row.ssim is not None
    assert 0.5 < row.ssim < 1
    assert row.cambi is not None
    assert 0 <= row.cambi < 24


def test_a_model_that_does_not_run_is_an_error_before_the_first_label(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    with pytest.raises(CapabilityError, match="--vmaf-model"):
        label(folder, ffmpeg, LabelOptions(models=("auto", "vmaf_v9.9.9")))
    assert not (folder / "labels.csv").exists()


# ---- what cannot be labelled


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
    assert [row.rung for row in plan_labels(folder, PLAIN).jobs] == ["bad"]  # tried again


def break_off(encode: Path) -> bytes:
    """The encode without its end."""
    return encode.read_bytes()[: encode.stat().st_size * 6 // 10]


def scratch(encode: Path) -> bytes:
    """The encode with noughts in its middle."""
    whole = bytearray(encode.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 3000] = bytes(3000)
    return bytes(whole)


@pytest.mark.parametrize("distortion", [break_off, scratch])
def test_one_broken_encode_leaves_the_others_of_its_source_labelled(
    tmp_path: Path,
    make_video: MakeVideo,
    poor: Path,
    coarse: Path,
    source_video: Path,
    ffmpeg: Ffmpeg,
    distortion: Callable[[Path], bytes],
) -> None:
    args = ("-crf", "20", "-movflags", "+faststart", *X264)
    encode = make_video("index-in-front.mp4", source_video, args)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(distortion(encode))
    given = {"a-poor": poor, "broken": broken, "coarse": coarse}
    rows = label(work_folder(tmp_path / "work", source_video, given), ffmpeg)
    assert_is_error_row(rows["broken"])
    assert rows["a-poor"].vmaf == pytest.approx(vmaf(poor, source_video, ffmpeg), abs=1e-3)
    assert rows["coarse"].vmaf == pytest.approx(vmaf(coarse, source_video, ffmpeg), abs=1e-3)


def test_an_encode_of_a_replaced_source_is_an_error_row(
    tmp_path: Path, poor: Path, coarse: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    source = tmp_path / "src.mp4"
    source.write_bytes(source_video.read_bytes())
    folder = work_folder(tmp_path / "work", source, {"poor": poor})
    (row,) = encodes_table(folder).rows()
    size_bytes = source.stat().st_size
    encodes_table(folder).append(dataclasses.replace(row, source_size_bytes=size_bytes))
    source.write_bytes(coarse.read_bytes())
    error_row = label(folder, ffmpeg)["poor"]
    assert_is_error_row(error_row)
    assert f"{source} has {coarse.stat().st_size} bytes, it had {size_bytes}" in error_row.error
    assert "run `vqatool ladder` again" in error_row.error


def test_labels_of_a_replaced_source_do_not_stay(
    tmp_path: Path, short: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    source, folder, rungs = tmp_path / "src.mp4", tmp_path / "work", [Rung(height_px=48, crf=40)]
    # of two films of one size only the content tells which is which
    films = [video.read_bytes() for video in (source_video, short)]
    films = [film.ljust(max(map(len, films)), b"\0") for film in films]
    source.write_bytes(films[0])
    made([source], rungs, folder, ffmpeg)
    right = label(folder, ffmpeg)
    os.utime(source, (1, 1))  # as of a copy
    assert label(folder, ffmpeg) == {}
    source.write_bytes(films[1])
    (replaced,) = label(folder, ffmpeg).values()
    assert_is_error_row(replaced)
    assert "another content" in replaced.error
    assert labels_table(folder).rows() == [replaced]
    source.write_bytes(films[0])
    (again,) = label(folder, ffmpeg).values()
    assert again.vmaf == right[rungs[0].name].vmaf


def test_ladder_and_label_after_a_source_was_replaced_give_labels_of_the_new_one(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    """Film B takes the place of film A under its name."""
    source, folder, rungs = tmp_path / "src.mp4", tmp_path / "work", [Rung(height_px=48, crf=40)]
    labels = []
    for film in (source_video, poor):
        source.write_bytes(film.read_bytes())
        made([source], rungs, folder, ffmpeg)
        labels.append(label(folder, ffmpeg)[rungs[0].name])
    assert [row.error for row in labels] == ["", ""]
    assert labels[0].vmaf != labels[1].vmaf
    assert labels_table(folder).rows() == labels[1:]


def test_a_log_that_cannot_be_kept_is_an_error_row_and_the_others_are_labelled(
    tmp_path: Path, poor: Path, coarse: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor, "coarse": coarse})
    in_the_way = folder / "vmaf" / "clip" / "poor.mp4.json.gz"
    in_the_way.mkdir(parents=True)
    rows = label(folder, ffmpeg)
    assert_is_error_row(rows["poor"])
    assert str(in_the_way) in rows["poor"].error
    assert rows["coarse"].status == "ok"


def test_a_missing_source_is_an_error_row(tmp_path: Path, poor: Path, ffmpeg: Ffmpeg) -> None:
    folder = work_folder(tmp_path, tmp_path / "gone.mp4", {"poor": poor})
    row = label(folder, ffmpeg)["poor"]
    assert_is_error_row(row)
    assert "gone.mp4" in row.error


# ---- the rest


def test_labelling_twice_gives_equal_logs(
    source_video: Path, poor: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    logs = []
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        folder = work_folder(tmp_path / name, source_video, {"poor": poor})
        label(folder, ffmpeg)
        logs.append((folder / "vmaf" / "clip" / "poor.mp4.json.gz").read_bytes())
    assert logs[0] == logs[1]


def test_a_feature_that_is_missing_for_small_videos_is_measured_once(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    folder = work_folder(tmp_path, source_video, {"poor": poor})
    options = LabelOptions(models=(V0,), features=("cambi",))
    (row,) = make_labels(plan_labels(folder, options), folder, ffmpeg)
    assert (row.cambi, row.warnings) == (None, "no_cambi")  # 192x108
    assert plan_labels(folder, options).jobs == ()
