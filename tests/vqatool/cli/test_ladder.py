"""`vqatool ladder`: encodes, messages and exit codes."""

import json
from pathlib import Path

import pytest

from ladder.media.lengths import count_frames
from ladder.storage import work_lock
from tests.vqatool.program import RUNGS, read_rows, vqatool


def test_a_dry_run_prints_one_command_for_a_source_and_makes_nothing(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    command = ["ladder", *real_clips[:2], "-o", tmp_path / "w", "--rungs", two_rungs, "--dry-run"]
    done = vqatool(*command)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.count("libx264") == 2 and line.count(" -i ") == 1 for line in lines)
    assert not (tmp_path / "w").exists()


def test_rungs_above_the_size_of_a_source_are_named(tmp_path: Path, source_video: Path) -> None:
    rungs, folder = tmp_path / "rungs.toml", tmp_path / "w"
    rungs.write_text(f"{RUNGS}\n[[rung]]\nheight_px = 720\ncrf = 30\n")
    ask = ["ladder", source_video, "-o", folder, "--rungs", rungs]
    told = f"left out, above {source_video.stem}'s own 192x108: 720p-crf30-x264\n"
    for args in ([*ask, "--dry-run"], ask):
        assert told in vqatool(*args).stderr
    assert len(read_rows(folder / "encodes.csv")) == 2


def test_a_dry_run_names_a_source_it_cannot_encode(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("x" * 999)
    done = vqatool("ladder", bad, real_clips[0], "--rungs", two_rungs, "--dry-run")
    assert done.exit_code == 4
    assert "bad.mp4" in done.stderr
    assert "libx264" in done.stdout


@pytest.mark.slow
def test_an_adaptive_ladder_is_labelled_while_it_is_encoded(
    tmp_path: Path, real_clips: list[Path]
) -> None:
    rungs, folder = tmp_path / "spread.toml", tmp_path / "w"
    crfs = (20, 24, 28, 32, 36, 40, 44, 48)
    text = "".join(f"[[rung]]\nheight_px = 90\ncrf = {crf}\n" for crf in crfs)
    rungs.write_text(f"num_rungs = 6\n{text}")
    command = ["ladder", *real_clips[:2], "-o", folder, "--rungs", rungs]

    dry_run = vqatool(*command, "--dry-run")
    assert dry_run.stdout.count("-crf ") == 2 * 4
    assert "the VMAF of these encodes decides the other rungs" in dry_run.stderr
    assert vqatool(*command).exit_code == 0

    chosen = read_rows(folder / "encodes.csv")
    assert [row["source"] for row in chosen].count(real_clips[0].stem) == 6
    labels = read_rows(folder / "labels.csv")
    assert {row["encode_path"] for row in labels} == {row["encode_path"] for row in chosen}
    for source in {row["source"] for row in labels}:
        ends = {row["rung"] for row in labels if row["source"] == source}
        assert {"90p-crf20-x264", "90p-crf48-x264"} <= ends
    before = (folder / "labels.csv").read_bytes()
    assert vqatool("label", folder, "--vmaf").exit_code == 0
    assert vqatool(*command).exit_code == 0
    assert (folder / "labels.csv").read_bytes() == before  # no encode is measured again


@pytest.mark.parametrize(
    ("option", "frames"), [(["--clip", "0.08+0.16"], 4), (["--segments", "2x0.12"], 6)]
)
def test_segments_of_a_source_are_encoded_and_labelled(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path, option: list[str], frames: int
) -> None:
    folder = tmp_path / "w"
    command = ["ladder", real_clips[0], "-o", folder, "--rungs", two_rungs, *option]
    assert vqatool(*command).exit_code == 0
    assert vqatool("label", folder, "--vmaf", "--features", "ssim").exit_code == 0
    labels = read_rows(folder / "labels.csv")
    assert len(labels) == 2
    for row in labels:
        assert count_frames(folder / row["encode_path"]) == frames
        assert (row["frames_source"], row["frames_compared"]) == (str(frames), str(frames))
        assert (row["pairing"], row["warnings"], row["vmaf_model"]) == ("index", "", "vmaf_v0.6.1")
        assert 0.3 < float(row["ssim"]) < 1
        assert float(row["vmaf_neg"]) <= float(row["vmaf"])


def test_a_clip_after_the_end_of_the_source_is_a_failed_row(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    command = ["ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", two_rungs]
    done = vqatool(*command, "--clip", "60+10")
    assert done.exit_code == 4
    assert "begins after its end" in done.stderr


def test_json_has_a_line_for_each_encode(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    command = ["ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", two_rungs, "--json"]
    for _ in range(2):  # rows of an earlier run too
        done = vqatool(*command)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert sorted(row["rung"] for row in rows) == sorted(
            row["rung"] for row in read_rows(tmp_path / "w" / "encodes.csv")
        )
        assert all(isinstance(row["bitrate_kbps"], float) for row in rows)
    done = vqatool(*command, "--dry-run")
    assert (done.exit_code, "leave one out" in done.stderr) == (2, True)


def test_two_runs_never_write_the_same_folder(tmp_path: Path, real_clips: list[Path]) -> None:
    rungs = tmp_path / "two.toml"
    rungs.write_text(RUNGS)
    (tmp_path / "w").mkdir()
    with work_lock(tmp_path / "w"):
        done = vqatool("ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", rungs)
    assert done.exit_code == 2
    assert "in use by another run" in done.stderr
    assert vqatool("ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", rungs).exit_code == 0


def test_earlier_encodes_are_not_sources(
    tmp_path: Path, real_clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.toml").write_text(RUNGS)
    Path("a.mp4").write_bytes(real_clips[0].read_bytes())
    for _ in range(2):
        assert vqatool("ladder", ".", "--rungs", "two.toml").exit_code == 0
        assert {row["source"] for row in read_rows(Path("encodes") / "encodes.csv")} == {"a"}
