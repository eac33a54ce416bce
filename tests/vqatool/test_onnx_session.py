"""A network is opened without leaving anything on the machine, or telling anybody."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from vqatool.inference.loading import load_predictor
load_predictor(device="cpu").load_model()
"""


def test_onnx_runtime_writes_no_files_and_sends_no_reports(tmp_path: Path) -> None:
    own = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    without = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env={**without, **own})
    assert done.returncode == 0
    assert not list(tmp_path.rglob("*"))
