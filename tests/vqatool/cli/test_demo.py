from pathlib import Path

import pytest

from ladder import probe
from ladder.encode.plan import EncodeRow
from ladder.encode.rungs import RateMode
from ladder.errors import CapabilityError
from ladder.label.rows import LabelRow
from ladder.storage import Status
from vqatool.cli.demo import demo_clip, demo_rows, demo_table
from vqatool.scoring.rows import ReportRow


def test_the_clip_is_a_real_video() -> None:
    info = probe(demo_clip())
    assert info.display_size == (1280, 720)
    assert info.duration_s > 5


def test_without_its_package_the_demo_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CapabilityError, match="pip install"):
        demo_clip()


def test_rungs_are_sorted_by_falling_bitrate_without_failures() -> None:
    folder = Path("w")
    encodes = [
        EncodeRow(source="s", source_path="/s.mp4", encode_path=f"s/{name}.mp4", rung=name,
                  codec="libx264", rate_mode=RateMode.VBR, bitrate_kbps=kbps)
        for name, kbps in (("low", 100.0), ("high", 900.0), ("lost", 500.0))
    ]  # fmt: skip
    labels = [
        LabelRow(encode_path="s/low.mp4", source="s", rung="low", vmaf=40.0),
        LabelRow(encode_path="s/high.mp4", source="s", rung="high", vmaf=90.0),
        LabelRow(encode_path="s/lost.mp4", source="s", rung="lost", status=Status.ERROR),
    ]
    report = [
        ReportRow(path=str(folder / f"s/{name}.mp4"), status="ok", score=score)
        for name, score in (("low", 45.0), ("high", 85.0), ("lost", 60.0))
    ]
    rows = demo_rows(encodes, labels, report, folder)
    assert [(row.rung, row.vmaf, row.score) for row in rows] == [
        ("high", 90.0, 85.0),
        ("low", 40.0, 45.0),
    ]
    assert demo_table(rows).row_count == 2
