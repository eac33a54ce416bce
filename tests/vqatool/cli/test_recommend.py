"""`vqatool recommend`: what it prints and writes, what it refuses, and its exit codes."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import MakeVideo
from tests.hdr import as_hdr
from tests.vqatool.program import read_rows, vqatool

GRID = ("--sizes", "108,54", "--rates", "16,26,36", "--preset", "ultrafast")


@pytest.fixture(scope="module")
def probed(source_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder of `vqatool recommend`; copy it before you change it."""
    folder = tmp_path_factory.mktemp("cli") / "work"
    done = vqatool("recommend", source_video, "-o", folder, *GRID, "--max-rungs", 3)
    assert done.exit_code == 0, done.stderr
    assert "108p-crf" in done.stdout
    assert "108p is better than 54p from" in done.stderr
    assert "off the prediction in the mean" in done.stderr
    assert "encodes: 6 probes" in done.stderr
    return folder


@pytest.fixture
def work(probed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(probed, tmp_path / "work"))


def test_the_ladder_file_goes_into_vqatool_ladder(
    work: Path, source_video: Path, tmp_path: Path
) -> None:
    ladder = work / "ladders" / "source.toml"
    done = vqatool("ladder", source_video, "--rungs", ladder, "-o", tmp_path / "again")
    assert done.exit_code == 0, done.stderr
    rungs = json.loads(ladder.with_suffix(".json").read_text())["rungs"]
    made = {row["rung"] for row in read_rows(tmp_path / "again" / "encodes.csv")}
    assert made == {rung["rung"] for rung in rungs}


def test_again_it_encodes_nothing_and_writes_the_same(work: Path, source_video: Path) -> None:
    files = {path.name: path.read_bytes() for path in (work / "ladders").iterdir()}
    rows = (work / "encodes.csv").read_bytes()
    done = vqatool("recommend", source_video, "-o", work, *GRID, "--max-rungs", 3)
    assert done.exit_code == 0, done.stderr
    assert (work / "encodes.csv").read_bytes() == rows
    assert {path.name: path.read_bytes() for path in (work / "ladders").iterdir()} == files


def test_a_labelled_folder_is_taken_as_it_is(work: Path) -> None:
    rows = (work / "encodes.csv").read_bytes()
    done = vqatool("recommend", work, "--no-encode", "--spacing", "log:1.5", "--pool", "p5")
    assert done.exit_code == 0, done.stderr
    assert (work / "encodes.csv").read_bytes() == rows
    request = json.loads((work / "ladders" / "source.json").read_text())["request"]
    assert (request["spacing"], request["quality"]) == ("log:1.5", "vmaf_p5")
    done = vqatool("recommend", work, "--top-vmaf", "70", "--max-rungs", "1")
    assert done.exit_code == 0, done.stderr
    (rung,) = json.loads((work / "ladders" / "source.json").read_text())["rungs"]
    assert rung["measured"]["vmaf"] == pytest.approx(70, abs=5)


def test_a_comparison_tells_what_each_rung_saves(work: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.toml"
    named.write_text("[[rung]]\nheight_px = 108\ncrf = 19\n[[rung]]\nheight_px = 54\ncrf = 49\n")
    done = vqatool("recommend", work, "--against", named)
    assert done.exit_code == 0, done.stderr
    assert f"{named} 108p-crf19-x264-ultrafast: " in done.stderr
    assert "no BD-rate against" in done.stderr
    assert "fewer than 3 rungs" in done.stderr
    assert "2 of the ladder to compare with" in done.stderr


def test_a_bad_source_is_named_and_the_others_are_done(
    source_video: Path, probed: Path, work: Path, tmp_path: Path
) -> None:
    bad, small = tmp_path / "bad.mp4", tmp_path / "no-video.mp4"
    bad.write_bytes(source_video.read_bytes()[:3000])
    small.write_text("no video")
    done = vqatool("recommend", bad, small, source_video, "-o", work, *GRID, "--max-rungs", 3)
    assert done.exit_code == 4
    assert str(bad) in done.stderr
    assert str(small) in done.stderr
    assert "108p-crf" in done.stdout


def test_a_source_without_a_recommendation_is_a_failure(source_video: Path, work: Path) -> None:
    done = vqatool("recommend", source_video, "-o", work, *GRID, "--max-kbps", "2")
    assert done.exit_code == 4
    assert "failed: source: no encode lies between the limits" in done.stderr
    done = vqatool("recommend", source_video, "-o", work, "--sizes", "720")
    assert done.exit_code == 4
    assert "choose others with --sizes" in done.stderr


def test_a_source_is_cut_to_segments(make_video: MakeVideo, tmp_path: Path) -> None:
    long = make_video("half-a-minute.mp4", "testsrc2=size=64x36:rate=5:duration=25")
    grid = ("--sizes", 36, "--rates", "20,32,44", "--preset", "ultrafast", "--max-rungs", 1)
    done = vqatool("recommend", long, "-o", tmp_path / "w", *grid)
    assert done.exit_code == 0, done.stderr
    assert {row["pieces"] for row in read_rows(tmp_path / "w" / "encodes.csv")} == {
        "1+5 7+5 13+5 19+5"
    }


def test_hdr_gets_a_ladder_of_its_sdr_version_alone(
    make_video: MakeVideo, source_video: Path, tmp_path: Path
) -> None:
    hdr, work = as_hdr(make_video, source_video, "hlg"), tmp_path / "w"
    grid = ("--sizes", 54, "--rates", "20,32,44", "--preset", "ultrafast", "--max-rungs", 1)
    done = vqatool("recommend", hdr, "-o", work, *grid)
    assert done.exit_code == 4
    assert f"failed: {hdr} is HDR (hlg)" in done.stderr
    assert "--tonemap" in done.stderr
    assert not (work / "encodes.csv").exists()
    done = vqatool("recommend", hdr, "-o", work, *grid, "--tonemap")
    assert done.exit_code == 0, done.stderr
    assert "the labels have warnings: tonemapped" in done.stderr
    assert {row["tonemap"] for row in read_rows(work / "encodes.csv")} == {"mobius"}
    rows = (work / "encodes.csv").read_bytes()
    done = vqatool("recommend", work, "--max-rungs", 1)
    assert done.exit_code == 0, done.stderr
    assert (work / "encodes.csv").read_bytes() == rows


def test_labels_of_hdr_make_no_ladder(
    make_video: MakeVideo, source_video: Path, tmp_path: Path
) -> None:
    hdr, work, rungs = as_hdr(make_video, source_video, "hlg"), tmp_path / "w", tmp_path / "r.toml"
    keys = 'height_px = 54\npreset = "ultrafast"\ncodec = "libx264"\n'
    rungs.write_text("".join(f"[[rung]]\ncrf = {crf}\n{keys}" for crf in (20, 32, 44)))
    assert vqatool("ladder", hdr, "-o", work, "--rungs", rungs).exit_code == 0
    assert vqatool("label", work).exit_code == 0
    done = vqatool("recommend", work, "--no-encode")
    assert done.exit_code == 4
    assert "are of HDR, which VMAF was not made for: run `vqatool label --tonemap`" in done.stderr
    assert vqatool("label", work, "--tonemap").exit_code == 0
    done = vqatool("recommend", work, "--no-encode")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--clip", "0+1", "--segments", "1x1"), "use one"),
        (("--rates", "60"), "crf is 60, not a whole number from 1 to 51"),
        (("--sizes", "721"), "not an even number"),
        (("--preset", "warp"), "preset is 'warp'"),
        (("--rates", "x"), "not a list of whole numbers"),
        (("--spacing", "vmaf"), "neither vmaf:POINTS"),
        (("--top-vmaf", "nan"), "top_quality is nan, not a finite number"),
        (("--max-kbps", "inf"), "max_kbps is inf, not a finite number"),
        (("--against", "nowhere"), "no ladder is named"),
        (("--against", "training"), "name a fixed ladder"),
        (("--no-encode",), "needs a work folder with labels"),
    ],
)
def test_options_that_cannot_be_are_usage_errors(
    options: tuple[str, ...], message: str, source_video: Path, tmp_path: Path
) -> None:
    done = vqatool("recommend", source_video, "-o", tmp_path / "w", *options)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("option", ["--by crf", "--rates 20", "--clip 0+1", "-o w", "--tonemap"])
def test_labels_are_not_probed_again(option: str, work: Path) -> None:
    done = vqatool("recommend", work, *option.split())
    assert done.exit_code == 2
    assert "is of probes" in done.stderr


def test_a_file_may_set_lists(
    work: Path, source_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vqatool.toml").write_text("[recommend]\nsizes = [108]\nrates = [16, 26, 36]\n")
    done = vqatool("recommend", source_video, "-o", work, "--preset", "ultrafast")
    assert done.exit_code == 0, done.stderr
    assert "encodes: 3 probes" in done.stderr
    assert vqatool("recommend", work, "--no-encode").exit_code == 0  # and is no bar to labels


def test_a_replaced_source_is_a_failure(work: Path, source_video: Path, tmp_path: Path) -> None:
    table, source = work / "encodes.csv", tmp_path / "other.mp4"
    source.write_bytes(source_video.read_bytes() + b"more")
    table.write_text(table.read_text().replace(str(source_video), str(source)))
    done = vqatool("recommend", work)
    assert done.exit_code == 4
    assert f"failed: {source} has" in done.stderr


def test_files_of_others_are_not_overwritten(work: Path, source_video: Path) -> None:
    mine = work / "ladders" / "source.toml"
    mine.write_text("[[rung]]\n")
    done = vqatool("recommend", work)
    assert done.exit_code == 2
    assert f"{mine} exists and vqatool did not write it" in done.stderr
    assert mine.read_text() == "[[rung]]\n"


def test_a_work_folder_is_named_alone(work: Path, source_video: Path) -> None:
    done = vqatool("recommend", work, source_video)
    assert done.exit_code == 2
    assert "name it alone" in done.stderr


def test_a_folder_without_video_exits_5(tmp_path: Path) -> None:
    assert vqatool("recommend", tmp_path, "-o", tmp_path / "w").exit_code == 5
