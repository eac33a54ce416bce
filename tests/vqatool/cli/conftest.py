"""A ladder file for the commands that encode."""

from pathlib import Path

import pytest

from tests.vqatool.program import RUNGS


@pytest.fixture
def two_rungs(tmp_path: Path) -> Path:
    file = tmp_path / "two.toml"
    file.write_text(RUNGS)
    return file
