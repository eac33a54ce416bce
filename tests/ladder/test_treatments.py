import contextlib
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder import EncodeRow, Ffmpeg, encodes_table, make_labels, plan_labels, probe
from ladder.codecs import CODECS
from ladder.encode.rungs import RateMode
from ladder.errors import TableError
from ladder.label.files import LabelFiles
from ladder.label.libvmaf import read_log
from ladder.label.metrics import log_metric_name
from ladder.media.probe import Size
from ladder.storage import Status
from ladder.treatments import (
    _CONTAINERS,
    _JOINING_CONTAINERS,
    TREATMENTS_FILE,
    Change,
    Generation,
    Kind,
    Treatment,
    coded_size,
    draw_treatment,
    main,
    make_treated,
    read_treatments,
)
from tests.conftest import MakeVideo

PLAIN = Generation(
    codec="libx264", mode=RateMode.CRF, quality=30, bits_per_pixel=0.4, preset="ultrafast", tune="",
    gop_s=1.0, has_b_frames=True, bit_depth=8, scale=1.0, scaler="bicubic", filter="",
)  # fmt: skip


def drawn(count: int) -> list[Treatment]:
    return [
        draw_treatment(f"source {i}", number) for i in range(count // 13) for number in range(13)
    ]


def test_a_treatment_depends_on_its_source_and_number_alone() -> None:
    assert draw_treatment("park", 7) == draw_treatment("park", 7)
    assert draw_treatment("park", 7) != draw_treatment("park", 20)
    assert draw_treatment("park", 7) != draw_treatment("street", 7)


def test_every_thirteen_treatments_have_all_kinds() -> None:
    kinds = Counter(draw_treatment("park", number).kind for number in range(13 * 2))
    once = {Kind.CLEAN: 2, Kind.LEGACY: 2, Kind.SINGLE: 12, Kind.COMMON: 4, Kind.CHANGING: 2}
    assert kinds == {**once, Kind.DOUBLE: 4}


def test_a_change_has_two_qualities_that_are_drawn_apart() -> None:
    changing = [one for one in drawn(5000) if one.change]
    assert {one.kind for one in changing} == {Kind.CHANGING}
    pairs = [
        (one.generations[0].quality, one.change.quality)
        for one in changing
        if one.change and one.generations[0].codec == "libx264"
    ]
    assert len(pairs) > 100
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.2


def test_each_modern_codec_has_clean_encodes_of_every_source() -> None:
    codecs = {draw_treatment("park", 13 * turn).generations[0].codec for turn in range(4)}
    assert codecs == {"libx264", "libx265", "libsvtav1", "libvpx-vp9"}


def test_no_fact_of_the_stream_stands_for_a_quality() -> None:
    """A low quantiser is mostly a good picture, and two qualities in a row are unrelated."""
    treatments = drawn(4000)
    low = [
        treatment.kind
        for treatment in treatments
        if (last := treatment.generations[-1]).codec == "libx264"
        and last.mode is RateMode.CRF
        and last.quality <= 15
    ]
    assert 0.05 < low.count(Kind.DOUBLE) / len(low) < 0.4
    pairs = [
        tuple(each.quality for each in treatment.generations)
        for treatment in treatments
        if treatment.kind is Kind.DOUBLE
        and {each.codec for each in treatment.generations} <= {"libx264", "libx265"}
    ]
    assert len(pairs) > 100
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.2


def test_svt_av1_never_gets_a_crf_at_which_its_fast_presets_overflow() -> None:
    crfs = [
        generation.quality
        for treatment in drawn(4000)
        for generation in treatment.generations
        if generation.codec == "libsvtav1"
    ]
    assert min(crfs) == 8


@pytest.mark.parametrize(
    "field", ["codec", "mode", "preset", "tune", "gop_s", "has_b_frames", "bit_depth", "scaler"]
)
def test_settings_vary_within_what_encoders_take(field: str) -> None:
    values = Counter(getattr(one.generations[-1], field) for one in drawn(1000))
    assert len(values) >= 2
    assert min(values.values()) >= 3


MODES = [
    *[(codec, RateMode.CRF) for codec in ("libx264", "libx265", "libsvtav1", "libvpx-vp9")],
    *[(codec, RateMode.VBR) for codec in ("libx264", "libx265", "libsvtav1", "libvpx-vp9")],
    *[(codec, RateMode.TWO_PASS) for codec in ("libx264", "libx265", "libvpx-vp9")],
    *[(codec, RateMode.CAPPED_CRF) for codec in ("libx264", "libx265", "libvpx-vp9")],
    *[(codec, RateMode.CBR) for codec in ("libx264", "libx265")],
    *[(codec, RateMode.QSCALE) for codec in ("mpeg2video", "mpeg4", "mjpeg")],
    *[(codec, RateMode.PROFILE) for codec in ("prores_ks", "dnxhd")],
]


@pytest.fixture(scope="module")
def small_source(make_video: MakeVideo) -> Path:
    scene = "mandelbrot=size=256x144:rate=25:start_scale=0.6:end_pts=60"  # DNxHR's smallest size
    return make_video(
        "treated-small.mp4", scene, ("-frames:v", "6", "-c:v", "libx264", "-crf", "4")
    )


@pytest.mark.parametrize(("codec", "mode"), MODES)
@pytest.mark.parametrize("is_plain", [True, False])
def test_every_codec_and_rate_mode_is_encoded(
    codec: str,
    mode: RateMode,
    is_plain: bool,
    small_source: Path,
    tmp_path: Path,
    ffmpeg: Ffmpeg,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preset = "ultrafast" if codec.startswith("libx26") else "8"
    one = replace(PLAIN, codec=codec, mode=mode, preset=preset)
    if mode is RateMode.QSCALE:
        one = replace(one, quality=5)
    if mode is RateMode.PROFILE:
        one = replace(one, quality=1)
    elif not is_plain:
        depth = 8 if mode is RateMode.QSCALE else 10
        one = replace(one, bit_depth=depth, has_b_frames=False, gop_s=0, scale=0.5, scaler="area",
                      filter="hqdn3d=3:2:4:3")  # fmt: skip
    both = Treatment(Kind.DOUBLE, (PLAIN, one))
    monkeypatch.setattr("ladder.treatments.draw_treatment", lambda source, number: both)
    (row,) = make_treated([small_source], tmp_path, ffmpeg, 1)
    assert row.status is Status.OK, row.error
    info = probe(tmp_path / row.encode_path)
    assert info.display_size == coded_size(one, Size(256, 144))
    assert row.frame_count == 6
    assert (info.bit_depth > 8) == (one.bit_depth == 10 or codec == "prores_ks")


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_the_quality_changes_at_its_frame(
    codec: str, source_video: Path, tmp_path: Path, ffmpeg: Ffmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good frames come first and bad ones after them, each at its own time."""
    preset = "medium" if codec.startswith("libx26") else "8"
    one = replace(PLAIN, codec=codec, preset=preset, quality=14, gop_s=0)
    largest = CODECS[codec].max_crf
    changing = Treatment(Kind.CHANGING, (one,), Change(at=0.5, quality=largest))
    monkeypatch.setattr("ladder.treatments.draw_treatment", lambda source, number: changing)
    (row,) = make_treated([source_video], tmp_path, ffmpeg, 1)
    assert (row.status, row.frame_count) == (Status.OK, 24), row.error
    assert row.crf is None  # it has two
    assert read_treatments(tmp_path) == {row.key: changing}
    (label,) = make_labels(plan_labels(tmp_path), tmp_path, ffmpeg)
    assert label.warnings == ""
    name = log_metric_name(label.vmaf_model)
    vmaf = read_log(LabelFiles.of_folder(tmp_path).log(row.key)).metrics[name]
    assert min(vmaf[:12]) > max(vmaf[12:]) + 5


def test_a_single_frame_has_one_quality(
    make_video: MakeVideo, tmp_path: Path, ffmpeg: Ffmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = Treatment(Kind.CHANGING, (PLAIN,), Change(at=0.5, quality=40))
    monkeypatch.setattr("ladder.treatments.draw_treatment", lambda source, number: changing)
    still = make_video("treated-still.mp4", "testsrc2=size=64x48", ("-frames:v", "1"))
    (row,) = make_treated([still], tmp_path, ffmpeg, 1)
    assert (row.status, row.frame_count) == (Status.OK, 1), row.error


def test_every_codec_has_its_containers() -> None:
    assert {generation.codec for one in drawn(2000) for generation in one.generations} == set(
        _CONTAINERS
    )
    assert {one.generations[0].codec for one in drawn(2000) if one.change} == set(
        _JOINING_CONTAINERS
    )


def test_encodes_are_labelled_like_those_of_a_ladder(
    source_video: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    rows = list(make_treated([source_video], tmp_path, ffmpeg, 6))
    assert [row.status for row in rows] == [Status.OK] * 6
    lines = [json.loads(line) for line in (tmp_path / TREATMENTS_FILE).read_text().splitlines()]
    assert {line["encode_path"] for line in lines} == {row.key for row in rows}
    assert {line["kind"] for line in lines} == {"clean", "single", "legacy", "double"}
    read = read_treatments(tmp_path)
    assert read == {
        row.key: draw_treatment("source-108p", number)
        for number, row in enumerate(sorted(rows, key=_number))
    }
    labels = list(make_labels(plan_labels(tmp_path), tmp_path, ffmpeg))
    assert [label.status for label in labels] == [Status.OK] * 6
    assert {label.frames_compared for label in labels} == {24}
    (clean,) = [label for label in labels if label.rung.startswith("clean")]
    assert clean.vmaf is not None
    assert clean.vmaf > 90


def _number(row: EncodeRow) -> str:
    return row.rung.partition("-")[0][-3:]


@pytest.mark.parametrize("line", ["{", '{"encode_path": "a"}', "[]", '{"kind": "x"}'])
def test_a_file_of_treatments_that_cannot_be_read_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / TREATMENTS_FILE).write_text(f"{line}\n")
    with pytest.raises(TableError, match=r"treatments.jsonl, line 1"):
        read_treatments(tmp_path)
    (tmp_path / TREATMENTS_FILE).unlink()
    assert read_treatments(tmp_path) == {}


def test_a_second_run_makes_only_what_is_missing(
    source_video: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    first = list(make_treated([source_video], tmp_path, ffmpeg, 1))
    with contextlib.closing(make_treated([source_video], tmp_path, ffmpeg, 4, jobs=1)) as rows:
        next(rows)  # and no more, as an interrupted run
    last = list(make_treated([source_video], tmp_path, ffmpeg, 4))
    assert len(first) == 1
    assert len(last) == 2
    table = encodes_table(tmp_path).rows()
    assert len({row.key for row in table}) == len(table) == 4


def test_an_encode_is_made_again_where_it_failed_or_its_source_was_replaced(
    source_video: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    source, folder = tmp_path / "src" / "a.mp4", tmp_path / "w"
    source.parent.mkdir()
    source.write_bytes(source_video.read_bytes() + b"\0\0\0\x10freeone film")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ladder.treatments.encoder_args", lambda *args: ["-c:v", "no-encoder"])
        (failed,) = make_treated([source], folder, ffmpeg, 1)
    assert failed.status is Status.ERROR
    assert "no-encoder" in failed.error
    assert not list(folder.rglob("*.part"))
    (made,) = make_treated([source], folder, ffmpeg, 1)
    assert made.status is Status.OK
    assert list(make_treated([source], folder, ffmpeg, 1)) == []
    os.utime(source, (1, 1))  # as a copy or a checkout does
    assert list(make_treated([source], folder, ffmpeg, 1)) == []
    source.write_bytes(source_video.read_bytes() + b"\0\0\0\x10freeanother.")
    (again,) = make_treated([source], folder, ffmpeg, 1)
    assert again.source_modified != made.source_modified
    (folder / again.encode_path).unlink()
    assert len(list(make_treated([source], folder, ffmpeg, 1))) == 1


def test_two_sizes_of_a_content_are_one_source(
    source_video: Path, make_video: MakeVideo, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    small = make_video("park-half.mp4", source_video, ("-vf", "scale=96:54", "-crf", "4"))
    sizes = []
    for folder, video in (("a", source_video), ("b", small)):
        copy = tmp_path / folder / "park.mp4"
        copy.parent.mkdir()
        copy.write_bytes(video.read_bytes())
        sizes.append(copy)
    rows: list[EncodeRow] = list(make_treated(sizes, tmp_path / "w", ffmpeg, 1))
    assert {row.source for row in rows} == {"park"}
    assert {Path(row.encode_path).parent.name for row in rows} == {"park-54p", "park-108p"}
    assert {row.display_height_px for row in rows} == {54, 108}


def test_an_encode_keeps_its_name_when_a_smaller_size_of_its_content_comes(
    source_video: Path, make_video: MakeVideo, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    large, small = tmp_path / "a" / "park.mp4", tmp_path / "b" / "park.mp4"
    large.parent.mkdir()
    large.write_bytes(source_video.read_bytes())
    (before,) = make_treated([large], tmp_path / "w", ffmpeg, 1)
    half = make_video("park-half.mp4", source_video, ("-vf", "scale=96:54", "-crf", "4"))
    small.parent.mkdir()
    small.write_bytes(half.read_bytes())
    (new,) = make_treated([large, small], tmp_path / "w", ffmpeg, 1)
    assert new.display_height_px == 54
    assert [row.source_path for row in encodes_table(tmp_path / "w").rows()] == [
        before.source_path,
        new.source_path,
    ]


def test_a_second_file_of_one_name_and_size_is_an_error_row(
    source_video: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    copies = [tmp_path / folder / "park.mp4" for folder in "ab"]
    for copy in copies:
        copy.parent.mkdir()
        copy.write_bytes(source_video.read_bytes())
    failed, made = make_treated(reversed(copies), tmp_path / "w", ffmpeg, 1)
    assert [made.status, made.source_path] == [Status.OK, str(copies[0].resolve())]
    assert failed.status is Status.ERROR
    assert failed.source_path == str(copies[1].resolve())
    assert "one name and one size: rename one of them" in failed.error


def test_a_torn_last_line_of_treatments_is_dropped(
    source_video: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    list(make_treated([source_video], tmp_path, ffmpeg, 2))
    whole = read_treatments(tmp_path)
    notes = tmp_path / TREATMENTS_FILE
    with notes.open("ab") as file:
        file.write('{"encode_path": "é'.encode()[:-1])  # killed in the middle of a letter
    assert read_treatments(tmp_path) == whole
    list(make_treated([source_video], tmp_path, ffmpeg, 3))
    assert len(read_treatments(tmp_path)) == 3


def test_a_bad_source_is_a_row_and_an_exit_code(
    tmp_path: Path, source_video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "src" / "bad.mp4"
    bad.parent.mkdir()
    bad.write_bytes(source_video.read_bytes()[:400])
    (bad.parent / "good.mp4").write_bytes(source_video.read_bytes())
    assert main([str(bad.parent), "-o", str(tmp_path / "w"), "--per-source", "1"]) == 4
    assert "bad.mp4" in capsys.readouterr().err
    statuses = {row.source: row.status for row in encodes_table(tmp_path / "w").rows()}
    assert statuses == {"bad": Status.ERROR, "good": Status.OK}


def test_encodes_are_never_sources_and_no_video_is_an_exit_code(
    tmp_path: Path, source_video: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(source_video.read_bytes())
    arguments = [str(tmp_path), "-o", str(tmp_path / "w"), "--per-source", "1"]
    assert [main(arguments), main(arguments)] == [0, 0]
    assert {row.source for row in encodes_table(tmp_path / "w").rows()} == {"a"}
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "-o", str(tmp_path / "v")]) == 5
