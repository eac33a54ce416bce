"""Recommend a ladder for a real (small) source: probes, rungs, their figures, the files."""

import json
import re
import shutil
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ladder.encode.ladders import Ladder, ladder_named
from ladder.encode.plan import Source, encodes_table, plan_ladder, read_sources
from ladder.encode.run import make_encodes
from ladder.encode.rungs import Rung
from ladder.errors import CurveError, LadderFileError, VideoError, VmafError
from ladder.label.rows import labels_table
from ladder.label.run import make_labels, plan_labels
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from ladder.media.rendition import read_rendition
from ladder.media.time_ranges import FULL
from ladder.recommend.adaptive import EncodeRound
from ladder.recommend.choice import Axis, Delivery, Limits, Spacing
from ladder.recommend.files import as_json, write_files
from ladder.recommend.points import Columns, read_points
from ladder.recommend.probed import read_labelled
from ladder.recommend.run import (
    ANY_SIZE,
    HEIGHTS,
    Recommendation,
    Request,
    chosen_round,
    probe_rungs,
    read_probes,
    recommend,
    recommend_rounds,
)

NAMED = Ladder(
    (*(Rung(height_px=108, crf=crf) for crf in (20, 29, 39)), Rung(height_px=720, crf=9))
)
REQUEST = Request(
    delivery=Delivery(preset="ultrafast"),
    heights=(720, 108, 72),  # 720 is larger than the source
    controls=(16, 24, 32, 40),
    limits=Limits(spacing=Spacing(Axis.VMAF, 9), bottom_quality=30),
    against=NAMED,
    against_name="named",
)


def source_of(video: Path, folder: Path) -> Source:
    (source,), failed = read_sources([video], ANY_SIZE, folder, FULL)
    assert not failed
    return source


def work(rounds: Iterable[EncodeRound], folder: Path, ffmpeg: Ffmpeg) -> list[int]:
    """Do the work of all rounds; returns how many encodes each had to make."""
    made = []
    for each in rounds:
        made.append(len(list(make_encodes(each.plan, folder, ffmpeg))))
        assert each.labels
        list(make_labels(plan_labels(folder, each.labels, each.keys), folder, ffmpeg))
    return made


@pytest.fixture(scope="module")
def folder(source_video: Path, ffmpeg: Ffmpeg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with all encodes of a recommendation; treat it as read-only."""
    folder = tmp_path_factory.mktemp("recommend")
    source = source_of(source_video, folder)
    made = work(recommend_rounds(source, REQUEST, folder), folder, ffmpeg)
    assert made[0] == 8
    assert made[1] >= 3
    return folder


@pytest.fixture(scope="module")
def found(folder: Path, source_video: Path) -> Recommendation:
    probed = read_probes(source_of(source_video, folder), REQUEST, folder)
    return recommend(probed, REQUEST, folder)


def test_the_grid_has_every_size_that_fits(source_video: Path, tmp_path: Path) -> None:
    source = source_of(source_video, tmp_path)
    names = [rung.name for rung in probe_rungs(source, replace(REQUEST, controls=(20, 30)))]
    assert names == [f"{h}p-crf{c}-x264-ultrafast" for h in (108, 72) for c in (20, 30)]
    by_default = probe_rungs(source, Request())
    assert {rung.height_px for rung in by_default} == {108}  # its own, as all others are larger
    assert [rung.crf for rung in by_default] == [18, 23, 28, 33, 38, 43]
    assert min(HEIGHTS) > 108
    av1 = probe_rungs(source, Request(delivery=Delivery("libsvtav1")))
    assert [rung.crf for rung in av1] == [22, 28, 35, 41, 47, 53]
    with pytest.raises(LadderFileError, match="smaller than every size of 720: choose others"):
        probe_rungs(source, Request(heights=(720,)))


def test_default_bitrates_follow_the_pixels(source_video: Path, tmp_path: Path) -> None:
    source = source_of(source_video, tmp_path)
    request = Request(delivery=Delivery(is_crf=False), heights=(108, 54))
    rungs = probe_rungs(source, request)
    kbps = {h: [r.bitrate_kbps for r in rungs if r.height_px == h] for h in (108, 54)}
    assert kbps[108] == [10, 13, 26, 52, 100]
    assert len(kbps[54]) == 3  # of those below 10 kbit/s, which no rung has, one is left


def test_the_chosen_rungs_are_measured_near_their_predictions(found: Recommendation) -> None:
    assert len(found.rungs) >= 4
    assert {rung.choice.rung.height_px for rung in found.rungs} == {108, 72}
    errors = [rung.error for rung in found.rungs if rung.error is not None]
    assert len(errors) == len(found.rungs)
    assert found.mean_error is not None
    # what is predicted of a probe is what was measured of it
    probes = {each.encode.rung for each in found.probed.encodes}
    told = [
        abs(e) for e, r in zip(errors, found.rungs, strict=True) if r.choice.rung.name not in probes
    ]
    assert len(told) < len(errors)
    assert found.mean_error == pytest.approx(sum(told) / len(told))
    assert found.mean_error < 1.5  # 24 frames and 8 CRFs between two probes
    for rung in found.rungs:
        assert rung.measured
        assert rung.measured.sample
        assert rung.measured.sample.rate_kbps == pytest.approx(rung.choice.rate_kbps, rel=0.08)
        assert rung.vmaf_p5 == pytest.approx(rung.measured.sample.vmaf_p5, abs=4)


def test_savings_are_the_ladder_against_the_envelope(found: Recommendation) -> None:
    assert [each.measured.encode.rung for each in found.against] == [
        f"108p-crf{crf}-x264-ultrafast" for crf in (20, 29, 39)
    ]  # 720p does not fit; the preset is that of the others
    for each in found.against:
        point = each.measured.point
        assert point
        assert each.rate_kbps
        assert each.saving == pytest.approx(1 - each.rate_kbps / point.rate_kbps)
        assert (each.saving or 0) > -0.05  # the envelope is never much worse
    assert found.bd_rate is not None
    assert found.bd_rate < 5


def test_a_finished_recommendation_has_nothing_to_do(
    folder: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    source = source_of(source_video, folder)
    rounds = list(recommend_rounds(source, REQUEST, folder))
    assert [len(each.plan.jobs) for each in rounds] == [0, 0]
    # other limits need the chosen rungs alone
    request = replace(REQUEST, limits=Limits(top_quality=60, max_rungs=2), against=None)
    probes, chosen = recommend_rounds(source, request, folder)
    assert not probes.plan.jobs
    assert len(chosen.keys) == 2


def test_the_5th_percentile_chooses_dearer_rungs(folder: Path, source_video: Path) -> None:
    source = source_of(source_video, folder)
    limits = Limits(top_quality=70, max_rungs=1)
    rates = {}
    for is_p5 in (False, True):
        request = replace(REQUEST, limits=limits, is_p5=is_p5, against=None)
        (rung,) = recommend(read_probes(source, request, folder), request, folder).rungs
        assert (rung.vmaf_p5 if is_p5 else rung.vmaf) == pytest.approx(70, abs=3)
        rates[is_p5] = rung.choice.rate_kbps
    assert rates[True] > rates[False]


def test_sizes_without_enough_labels_are_left_out(
    folder: Path, source_video: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    labels = labels_table(copy)
    rows = labels.rows()
    labels.rewrite([row for row in rows if not row.rung.startswith("72p")])
    source = source_of(source_video, copy)
    request = replace(REQUEST, against=None)
    found = recommend(read_probes(source, request, copy), request, copy)
    assert {rung.choice.rung.height_px for rung in found.rungs} == {108}
    assert not found.sizes_left_out  # of 72p nothing is known at all
    few = [row for row in rows if not row.rung.startswith("72p") or "crf16" in row.rung]
    labels.rewrite(few)
    found = recommend(read_probes(source, request, copy), request, copy)
    assert found.sizes_left_out == [
        "72p has 1 labelled encodes, of which 1 rise in rate and quality; a curve needs 3"
    ]
    labels.rewrite([])
    with pytest.raises(CurveError, match="no size has a curve: it has no label"):
        recommend(read_probes(source, request, copy), request, copy)


# ---- from a labelled work folder


def test_a_labelled_folder_needs_no_probes(folder: Path, found: Recommendation) -> None:
    (labelled,) = read_labelled(folder)
    probed = labelled.probed()
    assert probed.delivery == REQUEST.delivery
    assert probed.display_size == (192, 108)
    assert len(probed.encodes) >= 11  # the probes, the rungs and the named ladder
    again = recommend(probed, REQUEST, folder)
    assert again.rungs[0].choice.rate_kbps == pytest.approx(
        found.rungs[0].choice.rate_kbps, rel=0.15
    )
    (small,) = read_labelled(folder, heights=[72])
    assert {each.sample.height_px for each in small.encodes if each.sample} == {72}
    with pytest.raises(CurveError, match="no labelled encodes by CRF or bitrate of libx265"):
        read_labelled(folder, "libx265")


def test_encodes_of_another_kind_are_left_out(
    folder: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    others = Ladder(
        (Rung(height_px=108, crf=30), Rung(height_px=108, crf=30, reencode_crf=20),
         Rung(height_px=108, bitrate_kbps=90))
    )  # fmt: skip
    plan = plan_ladder([source_video], others, copy)
    list(make_encodes(plan, copy, ffmpeg))
    (before,) = read_labelled(folder)
    list(make_labels(plan_labels(copy, before.probed().labels), copy, ffmpeg))
    names = {each.encode.rung for each in before.encodes}
    (after,) = read_labelled(copy)
    assert {each.encode.rung for each in after.encodes} == names


def test_figures_of_other_parts_or_models_are_not_those_of_a_rung(
    folder: Path, found: Recommendation, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    first, second = (rung.choice.rung.name for rung in found.rungs[:2])
    encodes, labels = encodes_table(copy), labels_table(copy)
    encodes.rewrite(
        [replace(row, pieces="0+0.2") if row.rung == first else row for row in encodes.rows()]
    )
    labels.rewrite(
        [replace(row, vmaf_model="other") if row.rung == second else row for row in labels.rows()]
    )
    rungs = recommend(found.probed, REQUEST, copy).rungs
    assert rungs[0].measured is None
    assert rungs[1].measured
    assert rungs[1].measured.error == "it has no label"
    assert rungs[2].measured == found.rungs[2].measured


def test_a_source_that_is_gone_or_replaced_is_named(
    folder: Path, source_video: Path, tmp_path: Path
) -> None:
    copy, gone = tmp_path / "copy", tmp_path / "gone.mp4"
    shutil.copytree(folder, copy)
    table = encodes_table(copy)
    table.rewrite([replace(row, source_path=str(gone)) for row in table.rows()])
    (labelled,) = read_labelled(copy)
    probed = labelled.probed()
    assert len(recommend(probed, REQUEST, copy).rungs) >= 4  # predictions need no source
    with pytest.raises(VideoError, match=r"gone\.mp4 is not a file.*--no-encode"):
        chosen_round(probed, REQUEST, copy)
    gone.write_bytes(source_video.read_bytes() + b"more")
    with pytest.raises(VmafError, match=r"when source/.* was made"):
        labelled.probed()


# ---- the files


@pytest.fixture(scope="module")
def written(found: Recommendation, folder: Path) -> dict[str, Path]:
    return {path.name.partition(".")[2]: path for path in write_files(found, folder)}


def test_the_ladder_file_encodes_what_was_chosen(
    found: Recommendation, written: dict[str, Path], source_video: Path, folder: Path
) -> None:
    ladder = ladder_named(str(written["toml"]))
    assert list(ladder.rungs) == [rung.choice.rung for rung in found.rungs]
    # in the same work folder, `vqatool ladder --rungs` finds all of them done
    assert not plan_ladder([source_video], ladder, folder).jobs
    assert tomllib.loads(written["toml"].read_text())["default"]["preset"] == "ultrafast"


def test_the_json_holds_every_sample(
    found: Recommendation, written: dict[str, Path], folder: Path
) -> None:
    content = json.loads(written["json"].read_text())
    assert content == as_json(found)
    samples = content["samples"]
    assert len(samples) == len(encodes_table(folder).rows())
    assert {sample["role"] for sample in samples} == {"probe", "rung", "against"}
    points = read_points(written["json"], Columns(only={"role": "probe"}))
    assert len(points["source"]) == 8
    assert len(content["rungs"]) == len(found.rungs)
    assert content["rungs"][0]["measured"]["vmaf"] == pytest.approx(
        content["rungs"][0]["predicted"]["vmaf"], abs=4
    )
    assert content["crossovers"][0]["to_height_px"] == 108


def test_the_chart_is_whole_and_shows_every_mark(
    found: Recommendation, written: dict[str, Path]
) -> None:
    root = ET.fromstring(written["svg"].read_text())
    name = "{http://www.w3.org/2000/svg}"
    texts = [text.text or "" for text in root.iter(f"{name}text")]
    assert "108p, 4 samples" in texts
    assert "named" in texts
    width, height = (float(root.attrib[key]) for key in ("width", "height"))
    circles = list(root.iter(f"{name}circle"))
    samples = sum(len(curve.points) for curve in found.envelope.curves)
    assert len(circles) == samples + len(found.rungs) + 1  # one in the legend
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height


def test_the_stubs_name_each_measured_rung(
    found: Recommendation, written: dict[str, Path], folder: Path
) -> None:
    lines = written["m3u8.stub"].read_text().splitlines()
    assert lines[0] == "#EXTM3U"
    streams = [line for line in lines if line.startswith("#EXT-X-STREAM-INF")]
    assert len(streams) == len(found.rungs)
    assert "RESOLUTION=192x108" in streams[0]
    assert 'CODECS="avc1.' in streams[0]
    (peak,), (mean,) = ([int(part.split("=")[1]) for part in streams[0].split(":")[1].split(",")
                         if part.startswith(key)] for key in ("BANDWIDTH", "AVERAGE"))  # fmt: skip
    assert peak >= mean
    root = ET.fromstring(written["mpd.stub"].read_text())
    entries = list(root.iter("{urn:mpeg:dash:schema:mpd:2011}Representation"))
    assert [entry.attrib["id"] for entry in entries] == [
        rung.choice.rung.name for rung in found.rungs
    ]
    assert entries[0].attrib["bandwidth"] == str(peak)
    assert root.attrib["mediaPresentationDuration"] == "PT0.960S"


def test_predictions_alone_give_no_stubs(folder: Path, found: Recommendation) -> None:
    unmeasured = replace(
        found, rungs=tuple(replace(rung, measured=None) for rung in found.rungs), against=()
    )
    names = [path.name for path in write_files(unmeasured, folder)]
    assert sorted(names) == ["source.json", "source.svg", "source.toml"]
    assert "predicted: " in (folder / "ladders" / "source.toml").read_text()
    write_files(found, folder)


@pytest.mark.parametrize(
    ("codec", "pattern"),
    [
        ("libx264", r"avc1\.[0-9A-F]{6}"),
        ("libx265", r"h[ev][vc]1\.1\.6\.L\d+\.90"),
        ("libsvtav1", r"av01\.0\.\d\dM\.08"),
        ("libvpx-vp9", ""),
    ],
)
def test_a_rendition_has_the_codec_string_of_its_stream(
    codec: str, pattern: str, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    plan = plan_ladder([source_video], Ladder((Rung(height_px=64, crf=40, codec=codec),)), tmp_path)
    (row,) = make_encodes(plan, tmp_path, ffmpeg)
    rendition = read_rendition(tmp_path / row.encode_path)
    assert re.fullmatch(pattern, rendition.codec_string), rendition
    assert 0 < rendition.peak_kbps < 1000
    assert probe(tmp_path / row.encode_path).frame_count == 24
