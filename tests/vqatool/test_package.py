"""`import vqatool`: what it sets before torch loads, and what `score` accepts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vqatool
from tests.conftest import MakeVideo
from vqatool.errors import CheckpointError
from vqatool.inputs.decode_pool import decode_one


@pytest.mark.parametrize("entry", ["vqatool", "vqatool.cli", "vqatool.inputs.decode_pool"])
@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_torch_wait_without_spinning_unless_the_user_chose_otherwise(
    entry: str, given: str | None, expected: str
) -> None:
    script = (
        f"import sys, {entry}, os\n"
        "assert 'torch' not in sys.modules\n"  # it reads the variable when it is loaded
        "print(os.environ['OMP_WAIT_POLICY'])\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    env["PYTHONPATH"] = str(Path(vqatool.__file__).parent.parent)
    env |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert done.stdout == f"{expected}\n", done.stderr


def wait_policy(path: Path) -> str | None:
    return os.environ.get("OMP_WAIT_POLICY")


def test_workers_have_the_same_setting() -> None:
    assert decode_one(Path("any"), wait_policy) == os.environ["OMP_WAIT_POLICY"]


@pytest.mark.parametrize("kind", [str, Path, list])
def test_score_takes_a_path_a_string_or_several(
    kind: type, labelled: Path, small_model: Path
) -> None:
    video = sorted(labelled.rglob("*.mp4"))[0]
    paths = [str(video)] if kind is list else kind(video)
    (row,) = vqatool.score(paths, model=small_model, device="cpu", display=(320, 180))
    assert (row.path, row.status) == (str(video), "ok")


@pytest.mark.parametrize(
    ("display", "told"),
    [("native", "native"), (None, "native"), ("320x180", "320x180"), ((320, 180), "320x180")],
)
def test_a_display_is_given_as_on_the_command_line_or_as_a_pair(
    display: vqatool.scorer.Screen, told: str, small_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.mp4").touch()
    (row,) = vqatool.score(tmp_path, model=small_model, device="cpu", display=display)
    assert row.display == told


@pytest.mark.parametrize("display", ["480", (480,), (480, 2), 480])
def test_what_is_no_display_is_refused(display: vqatool.scorer.Screen, small_model: Path) -> None:
    with pytest.raises(ValueError, match="neither a size such as 1920x1080 nor native"):
        vqatool.Scorer(small_model, display=display)


@pytest.mark.parametrize("paths", [3, None, ["a.mp4", 3]])
def test_what_is_no_path_is_named(paths: vqatool.scorer.Paths, small_model: Path) -> None:
    with pytest.raises(TypeError, match=r"(3|None) is no path: give a file or a folder"):
        vqatool.score(paths, model=small_model, device="cpu")


def test_skimming_is_told(small_model: Path, make_video: MakeVideo) -> None:
    video = make_video("skimmed.mp4", "testsrc=s=64x36:r=10:d=1.2")
    (row,) = vqatool.score(video, model=small_model, device="cpu", segment_s=0.5, skim=True)
    assert (row.status, row.segments, row.sampled) == ("ok", 2, "skim")


def test_a_model_that_is_missing_is_refused_before_any_video() -> None:
    with pytest.raises(CheckpointError, match=r"nope\.onnx"):
        vqatool.Scorer("nope.onnx")
