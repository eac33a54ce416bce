"""`vqatool evaluate`: tables, messages and exit codes."""

from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("split", "is_warned"), [("all", True), ("val", False)])
def test_sources_that_the_model_learned_from_are_warned_of(
    split: str, is_warned: bool, work_folder: Path, small_model: Path
) -> None:
    first, *others = sorted({row["source"] for row in read_rows(work_folder / "encodes.csv")})
    sides = [f"{first},val", *(f"{source},train" for source in others)]
    (work_folder / "splits.csv").write_text("\n".join(["source,split", *sides, ""]))
    done = vqatool("evaluate", work_folder, "-m", small_model, "--split", split, "--device", "cpu")
    assert done.exit_code == 0
    told = "warning: 2 of 3 sources are on the training side of the split"
    assert (told in done.stderr) == is_warned
