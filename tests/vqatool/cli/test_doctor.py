"""`vqatool doctor`: the parts it checks and its exit codes."""

from pathlib import Path

from tests.vqatool.program import vqatool


def test_the_doctor_finds_every_part_here() -> None:
    done = vqatool("doctor")
    assert done.exit_code == 0
    for part in (
        "ffmpeg",
        "encoder libsvtav1",
        "VMAF v0",
        "ONNX Runtime",
        "default model",
        "device",
    ):
        assert part in done.stdout


def test_the_doctor_names_the_remedy_for_a_missing_part(tmp_path: Path) -> None:
    bare = tmp_path / "ffmpeg"
    bare.write_text("#!/bin/sh\necho ffmpeg version 9-bare\n")
    bare.chmod(0o755)
    done = vqatool("doctor", "--ffmpeg", bare)
    assert done.exit_code == 6
    assert "remedy" in done.stdout
    assert "imageio-ffmpeg" in done.stdout
