"""`vqatool doctor`: the parts it checks and its exit codes."""

import json
from pathlib import Path

import pytest

from tests.vqatool.program import vqatool
from vqatool.cli.doctor import run_checks


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


def test_the_doctor_names_a_libvmaf_with_a_fault_and_uses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = tmp_path / "ffmpeg"
    faulty.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "*-version*) echo ffmpeg version 8; exit;;\n"
        '*-filters*) echo " .. libvmaf  VV->V  Calculate."; exit;;\n'
        "esac\n"
        """case "$*" in *log_path*) echo '{"version": "3.2.0"}' > vmaf.json;; esac\n"""
    )
    faulty.chmod(0o755)
    monkeypatch.delenv("VQATOOL_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = {check.name: check for check in run_checks(None)}
    assert "bundled" in found["ffmpeg"].details
    assert found["libvmaf"].works
    passed_over = found["ffmpeg on PATH"]
    assert (passed_over.works, passed_over.is_required) == (False, False)
    assert f"{faulty} has libvmaf 3.2.0, whose memory grows" in passed_over.details
    named = {check.name: check for check in run_checks(faulty)}
    assert not named["libvmaf"].works
    assert "3.2.1" in named["libvmaf"].details


def test_json_has_a_line_for_each_check() -> None:
    done = vqatool("doctor", "--json")
    checks = [json.loads(line) for line in done.stdout.splitlines()]
    assert {check["name"] for check in checks} >= {"python", "ffmpeg", "encoder libx264"}
    assert all(isinstance(check["works"], bool) for check in checks)
