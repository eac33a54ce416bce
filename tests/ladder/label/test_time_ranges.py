"""Labels of encodes of time ranges: compared with exactly the frames they were made of."""

import dataclasses
from pathlib import Path

import pytest

from ladder.encode.ladders import Ladder
from ladder.encode.plan import encodes_table, plan_ladder
from ladder.encode.run import make_encodes
from ladder.encode.rungs import Rung
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.time_ranges import TimeRange, TrimSpec
from tests.ladder.conftest import BY_HAND, label, vmaf_by_hand


@pytest.mark.parametrize(
    ("trim", "time_ranges", "select"),
    [
        (TrimSpec(clip=TimeRange(0.2, 0.4)), "0.2+0.4", "between(n,5,14)"),
        # 3 frames between two pieces of 8: the joint is no shift
        (TrimSpec(segments=(2, 0.32)), "0.107+0.32 0.533+0.32", "between(n,3,10)+between(n,14,21)"),
    ],
)
def test_an_encode_of_time_ranges_is_compared_with_their_frames(
    tmp_path: Path,
    source_video: Path,
    ffmpeg: Ffmpeg,
    trim: TrimSpec,
    time_ranges: str,
    select: str,
) -> None:
    folder, ladder = tmp_path / "work", Ladder((Rung(height_px=108, crf=30),))
    (made,) = make_encodes(plan_ladder([source_video], ladder, folder, trim), folder, ffmpeg)
    assert (made.error, made.pieces) == ("", time_ranges)
    (row,) = label(folder, ffmpeg).values()
    count = made.frame_count
    assert (row.frames_source, row.frames_encode, row.frames_compared) == (count, count, count)
    assert (row.pairing, row.offset_frames, row.warnings) == ("index", 0, "")
    encode, clock = folder / made.encode_path, "settb=1/25,setpts=N"
    graph = f"[0:v]{clock}[e];[1:v]select='{select}',{clock}[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(encode, source_video, graph, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    # the source's first frames instead of its pieces
    start = f"[0:v]{clock}[e];[1:v]{clock},trim=end_frame={count}[s];[e][s]{BY_HAND}"
    assert vmaf_by_hand(encode, source_video, start, ffmpeg, tmp_path) < right - 20


def test_encodes_of_other_time_ranges_are_measured_separately(
    tmp_path: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    ladder = Ladder((Rung(height_px=108, crf=30),))
    for name, trim in (
        ("a", TrimSpec(clip=TimeRange(0.2, 0.4))),
        ("b", TrimSpec(clip=TimeRange(0.4, 0.4))),
    ):
        folder = tmp_path / name
        list(make_encodes(plan_ladder([source_video], ladder, folder, trim), folder, ffmpeg))
    (other,) = encodes_table(tmp_path / "b").rows()
    moved = dataclasses.replace(other, encode_path="clip/other.mp4", rung="other")
    (tmp_path / "a" / "clip").mkdir()
    (tmp_path / "a" / moved.encode_path).write_bytes(
        (tmp_path / "b" / other.encode_path).read_bytes()
    )
    encodes_table(tmp_path / "a").append(moved)
    rows = label(tmp_path / "a", ffmpeg)
    alone = label(tmp_path / "b", ffmpeg)
    assert rows["other"].vmaf == alone[other.rung].vmaf
    assert rows[other.rung].vmaf != alone[other.rung].vmaf
    assert {row.warnings for row in rows.values()} == {""}
