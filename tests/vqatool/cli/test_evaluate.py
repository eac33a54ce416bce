"""`vqatool evaluate`: tables, messages and exit codes."""

from pathlib import Path

from tests.vqatool.program import read_rows, vqatool


def test_an_evaluation_leaves_out_files_it_cannot_decode_and_exits_4(
    work_folder: Path, small_model: Path
) -> None:
    broken, gone, *_, good = sorted(work_folder.rglob("*.mp4"))
    broken.write_text("no video\n" * 100)
    gone.unlink()
    arguments = ["evaluate", work_folder, "-m", small_model, "--split", "all", "--device", "cpu"]
    done = vqatool(*arguments)
    assert done.exit_code == 4
    for path in (broken, gone):
        assert f"left out: {path}" in done.stderr
    assert "10 encodes of 3 sources, 2 left out" in done.stderr
    assert "too few to tell whether the model beats the bitrate" in done.stderr
    assert read_rows(work_folder / "evaluation-figures.csv")[0]["count"] == "10"
    assert str(good) in (work_folder / "evaluation.csv").read_text()


def test_an_evaluation_without_any_readable_file_is_refused(
    work_folder: Path, small_model: Path
) -> None:
    for row in read_rows(work_folder / "encodes.csv"):
        (work_folder / row["encode_path"]).unlink()
    done = vqatool("evaluate", work_folder, "-m", small_model, "--split", "all")
    assert done.exit_code == 2
    assert "none of the 12 labelled encodes" in done.stderr
    assert not (work_folder / "evaluation.csv").exists()
