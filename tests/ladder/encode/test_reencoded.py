"""Re-encoded (double-compressed) rungs: bad pictures in a good stream."""

from pathlib import Path

import pytest

from ladder import Ffmpeg, LabelOptions, Ladder, make_encodes, make_labels, plan_labels, plan_ladder
from ladder.encode.plan import EncodeJob, EncodeRow
from ladder.encode.rungs import Rung
from ladder.encode.transcode import shell_command
from ladder.label.rows import LabelRow
from ladder.media.probe import probe

BAD = Rung(height_px=48, crf=45)
TWICE = Rung(height_px=48, crf=45, reencode_crf=12)
TWO_PASS = Rung(height_px=48, bitrate_kbps=30, two_pass=True, reencode_crf=12)


@pytest.fixture
def made(
    source_video: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> dict[str, tuple[EncodeRow, LabelRow]]:
    """Encode and label of each rung."""
    plan = plan_ladder([source_video], Ladder((BAD, TWICE, TWO_PASS)), tmp_path)
    encodes = {row.key: row for row in make_encodes(plan, tmp_path, ffmpeg)}
    labels = make_labels(plan_labels(tmp_path, LabelOptions()), tmp_path, ffmpeg)
    return {row.rung: (encodes[row.key], row) for row in labels}


def test_a_reencode_has_the_size_and_bitrate_of_a_good_encode_and_the_vmaf_of_a_bad_one(
    made: dict[str, tuple[EncodeRow, LabelRow]], source_video: Path
) -> None:
    (bad, bad_label), (twice, label) = made[BAD.name], made[TWICE.name]
    assert (twice.width_px, twice.height_px) == probe(source_video).display_size
    assert (bad.height_px, bad.frame_count) == (48, twice.frame_count)
    assert twice.bitrate_kbps > 3 * bad.bitrate_kbps  # type: ignore[operator]  # good rows
    assert label.vmaf == pytest.approx(bad_label.vmaf, abs=5)


def test_both_passes_run_before_the_reencode(
    made: dict[str, tuple[EncodeRow, LabelRow]], source_video: Path
) -> None:
    encode, _ = made[TWO_PASS.name]
    assert encode.status == "ok"
    assert (encode.width_px, encode.height_px) == probe(source_video).display_size


def test_no_file_of_the_first_encode_is_left(
    made: dict[str, tuple[EncodeRow, LabelRow]], tmp_path: Path
) -> None:
    assert not list(tmp_path.rglob("*.part"))
    assert len(list(tmp_path.rglob("*.mp4"))) == len(made) == 3


def test_the_shell_command_includes_the_reencode(
    source_video: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    command = shell_command(probe(source_video), {tmp_path / "e.mp4": TWICE}, (), ffmpeg)
    assert command.count("e.mp4.first.vqatool.part") == 3  # written, read, removed
    assert " && rm " in command


def test_the_cost_includes_the_reencode(source_video: Path, tmp_path: Path) -> None:
    plan = plan_ladder([source_video], Ladder((BAD, TWICE)), tmp_path)
    costs: dict[str, float] = {job.rung.name: job.cost for job in plan.jobs}
    assert costs[TWICE.name] > costs[BAD.name]
    assert all(isinstance(job, EncodeJob) for job in plan.jobs)
