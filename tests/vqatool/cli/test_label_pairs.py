"""`vqatool label` of encodes made elsewhere: how pairs are named, outputs, exit codes, training."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import MakeVideo
from tests.vqatool.program import read_rows, vqatool

PLAIN = ("--vmaf-model", "v0", "--jobs", 1)
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@pytest.fixture
def place(
    tmp_path: Path,
    source_video: Path,
    make_video: MakeVideo,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The current folder: two sources in `src`, and in `made` two encodes of each."""
    for name in ("src", "made"):
        (tmp_path / name).mkdir()
    for source in ("film", "clip"):
        shutil.copy(source_video, tmp_path / "src" / f"{source}.mp4")
        for name, size, crf in (("72p", "128:72", 30), ("54p", "96:54", 40)):
            args = ("-vf", f"scale={size}", "-frames:v", "24", "-crf", str(crf), *X264)
            encode = make_video(f"made-{name}.mp4", source_video, args)
            shutil.copy(encode, tmp_path / "made" / f"{source}_{name}.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_pair_is_told_in_the_terminal_and_writes_nothing(place: Path) -> None:
    done = vqatool("label", "--source", "src/film.mp4", "made/film_72p.mp4", *PLAIN)
    assert done.exit_code == 0, done.stderr
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert 20 < float(told["vmaf_min"]) <= float(told["vmaf_p1"]) <= float(told["vmaf"]) < 100
    assert {"vmaf_hmean", "vmaf_p5", "vmaf_p10", "psnr_y"} <= set(told)
    assert told["frames_compared"].startswith("24 by index (24 in the encode, 24 in the source)")
    assert told["warnings"].strip() == "none"
    assert {path.name for path in place.iterdir()} == {"src", "made"}


def test_several_encodes_go_to_a_table_that_is_continued(place: Path) -> None:
    command = ("label", "--source", "src/film.mp4", "made/film_*.mp4", *PLAIN)
    done = vqatool(*command)
    assert done.exit_code == 0
    assert done.stdout.startswith("VMAF ")
    rows = read_rows(place / "labels.csv")
    assert [row["encode_path"] for row in rows] == ["made/film_54p.mp4", "made/film_72p.mp4"]
    before = (place / "labels.csv").read_bytes()
    assert "2 labels exist already" in vqatool(*command).stderr
    assert (place / "labels.csv").read_bytes() == before
    vqatool(*command, "--rung-by", "height")
    assert [row["rung"] for row in read_rows(place / "labels.csv")] == ["54p", "72p"]


def test_json_has_a_line_for_each_encode_and_only_them(place: Path) -> None:
    (place / "text.mp4").write_text("no video")
    given = ("--source", "src/film.mp4", "made/film_54p.mp4", "text.mp4")
    done = vqatool("label", *given, "--json", "--features", "ssim", *PLAIN)
    assert done.exit_code == 4
    rows = {row["encode_path"]: row for row in map(json.loads, done.stdout.splitlines())}
    good, bad = rows["made/film_54p.mp4"], rows["text.mp4"]
    assert (good["status"], good["warnings"], good["fps"]) == ("ok", [], 25)
    for key in ("vmaf", "vmaf_hmean", "vmaf_p1", "ssim", "bitrate_kbps"):
        assert isinstance(good[key], float)
    assert (good["frames_compared"], good["vmaf_neg"]) == (24, None)
    assert (bad["status"], bad["vmaf"]) == ("error", None)
    assert "text.mp4" in bad["error"]
    assert "failed: " in done.stderr
    assert not (place / "labels.csv").exists()


def test_the_table_may_be_stdout(place: Path) -> None:
    done = vqatool("label", "--source", "src/film.mp4", "made/film_54p.mp4", "-o", "-", *PLAIN)
    assert done.exit_code == 0
    (place / "out.csv").write_text(done.stdout)
    (row,) = read_rows(place / "out.csv")
    assert 20 < float(row["vmaf"]) < 100
    assert {path.name for path in place.iterdir()} == {"src", "made", "out.csv"}


def test_folders_are_matched_by_names_and_what_is_left_out_is_named(place: Path) -> None:
    shutil.copy("made/film_54p.mp4", "made/other_54p.mp4")
    shutil.copy("src/film.mp4", "src/clip_72p.mp4")  # film, clip, clip_72p
    shutil.copy("made/film_54p.mp4", "made/clip_72p_x.mp4")
    done = vqatool("label", "--source", "src", "made", "--match", "{stem}_*", "-o",
                   "made/labels.csv", *PLAIN)  # fmt: skip
    assert done.exit_code == 4
    rows = read_rows(place / "made" / "labels.csv")
    assert [(row["source"], row["encode_path"]) for row in rows] == [
        ("clip", "clip_54p.mp4"),
        ("clip", "clip_72p.mp4"),
        ("film", "film_54p.mp4"),
        ("film", "film_72p.mp4"),
    ]
    assert "failed: made/other_54p.mp4: no source matches '{stem}_*'" in done.stderr
    assert "failed: made/clip_72p_x.mp4: 2 sources match" in done.stderr
    assert "made/labels.csv: 4 labelled; next: vqatool train made" in done.stderr
    assert "film" not in done.stderr.partition("no source matches")[2]


def test_pairs_come_from_a_csv(place: Path) -> None:
    (place / "made" / "pairs.csv").write_text(
        "source,encode,rung\n../src/film.mp4,film_54p.mp4,low\n../src/film.mp4,gone.mp4,low\n"
    )
    done = vqatool("label", "--pairs", "made/pairs.csv", *PLAIN)
    assert done.exit_code == 4
    good, bad = read_rows(place / "labels.csv")
    assert (good["encode_path"], good["rung"], good["error"]) == ("made/film_54p.mp4", "low", "")
    assert "made/gone.mp4 is not a file" in bad["error"]


def test_every_frame_is_drawn_without_measuring_again(place: Path) -> None:
    command = ("label", "--source", "src/film.mp4", "made/film_54p.mp4", "made/film_72p.mp4")
    assert vqatool(*command, *PLAIN).exit_code == 0
    (place / "made" / "film_54p.mp4").rename("<&film_54p.mp4")
    shutil.copy("<&film_54p.mp4", "made/film_54p.mp4")
    for _ in range(2):  # a drawing of ours may be replaced
        done = vqatool(*command, "--plot", "frames.svg", *PLAIN)
        assert done.exit_code == 0, done.stderr
    assert "2 labels exist already" in done.stderr
    drawing = ElementTree.parse(place / "frames.svg").getroot()
    lines = [each for each in drawing.iter() if each.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [24, 24]
    texts = [each.text or "" for each in drawing.iter() if each.tag.endswith("text")]
    (row, _) = read_rows(place / "labels.csv")
    assert any(f"mean {float(row['vmaf']):.2f}" in text for text in texts)
    assert any(f"lowest {float(row['vmaf_min']):.2f} at" in text for text in texts)


def test_a_default_for_pairs_does_not_disturb_a_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vqatool.toml").write_text('[label]\nrung-by = "height"\n')
    assert "holds no encodes" in vqatool("label", "w").stderr


def test_a_work_folder_has_json_and_a_drawing_too(
    tmp_path: Path, source_video: Path, two_rungs: Path
) -> None:
    folder = tmp_path / "w"
    assert vqatool("ladder", source_video, "-o", folder, "--rungs", two_rungs).exit_code == 0
    drawing = tmp_path / "frames.svg"
    done = vqatool("label", folder, "--json", "--plot", drawing, *PLAIN)
    assert done.exit_code == 0, done.stderr
    rungs = {json.loads(line)["rung"] for line in done.stdout.splitlines()}
    assert rungs == {row["rung"] for row in read_rows(folder / "labels.csv")}
    assert drawing.read_text().count("<polyline") == 2


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ("--source src/film.mp4", 2, "name the encodes of src/film.mp4"),
        ("--source src made", 2, "--source src is a folder: pair its files with --match"),
        ("--source gone.mp4 made", 2, "--source gone.mp4 is not a file"),
        ("--source src made --match x_*", 2, "'x_*' has no {stem}"),
        ("--source src made --match {stem}+*", 2, "pairs none of 4 encodes with one of 2 sources"),
        ("--source src/film.mp4 empty", 5, "no video found in empty"),
        ("--source empty made --match {stem}_*", 5, "no video found in empty"),
        ("--pairs pairs.csv made", 2, "use it alone"),
        ("--pairs pairs.csv", 2, "pairs.csv has the columns (none)"),
        ("pairs.csv", 2, "label pairs with --pairs pairs.csv"),
        ("src made", 2, "src, made is not one work folder"),
        ("src/film.mp4", 2, "name their source with --source"),
        ("made -o x.csv", 2, "-o is for encodes made elsewhere"),
        ("made --match {stem}", 2, "--match is for encodes made elsewhere"),
        ("made --rung-by height", 2, "--rung-by is for encodes made elsewhere"),
        ("--source src/film.mp4 made -o x.json", 2, "must end in .csv"),
        ("--source src/film.mp4 made --plot x.png", 2, "must end in .svg"),
        ("--source src/film.mp4 made --plot foreign.svg", 2, "vqatool did not write it"),
        ("--source src/film.mp4 many --plot x.svg", 2, "at most 10 encodes, and there are 11"),
        ("--source src/film.mp4 made -o foreign.csv", 2, "has other columns"),
        ("--source src/film.mp4 made -o - --json", 2, "both write to stdout"),
        ("made", 2, "name encodes made elsewhere"),
    ],
)
def test_what_cannot_be_done_says_why_and_measures_nothing(
    place: Path, args: str, code: int, says: str
) -> None:
    for folder in ("empty", "many"):
        (place / folder).mkdir()
    for number in range(11):
        (place / "many" / f"{number}.mp4").write_bytes(b"x")
    (place / "pairs.csv").write_text("")
    (place / "foreign.svg").write_text("<svg/>")
    (place / "foreign.csv").write_text("a,b\n")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    done = vqatool("label", *args.split())
    assert done.exit_code == code
    assert says in done.stderr.replace("\n", " ")
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_model_learns_from_encodes_made_elsewhere(place: Path) -> None:
    done = vqatool("label", "--source", "src", "made", "--match", "{stem}_*", "-o",
                   "made/labels.csv", "--rung-by", "height", *PLAIN)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    small = ("--init", "scratch", "--size", "pico", "--shape", "features=32", "--clip-frames", 2,
             "--step-frames", 1, "--sources", 1, "--rungs", 2, "--epochs", 1)  # fmt: skip
    done = vqatool("train", "made", *small, "--validations", 1, "--no-export")
    assert done.exit_code == 0, done.output
    assert {row["source"] for row in read_rows(place / "made" / "splits.csv")} == {"clip", "film"}
    assert (place / "made" / "model.safetensors").is_file()
