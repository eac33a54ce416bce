"""`vqatool label`: labels, messages and exit codes."""

from pathlib import Path

from tests.vqatool.program import vqatool


def test_a_vmaf_model_that_is_missing_exits_6_with_the_remedy(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    folder = tmp_path / "w"
    assert vqatool("ladder", real_clips[0], "-o", folder, "--rungs", two_rungs).exit_code == 0
    done = vqatool("label", folder, "--vmaf", "--vmaf-model", "vmaf_v9")
    assert done.exit_code == 6
    assert "--vmaf-model" in done.stderr


def test_labelling_a_missing_folder_does_not_create_it(tmp_path: Path) -> None:
    assert vqatool("label", tmp_path / "nowhere", "--vmaf").exit_code == 2
    assert not (tmp_path / "nowhere").exists()


def test_vmaf_is_the_default_label(tmp_path: Path, real_clips: list[Path], two_rungs: Path) -> None:
    folder = tmp_path / "w"
    assert vqatool("ladder", real_clips[0], "-o", folder, "--rungs", two_rungs).exit_code == 0
    assert vqatool("label", folder).exit_code == 0
    labels = (folder / "labels.csv").read_bytes()
    assert vqatool("label", folder, "--vmaf").exit_code == 0
    assert (folder / "labels.csv").read_bytes() == labels
