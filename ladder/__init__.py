"""Bitrate ladders and VMAF labels, made with ffmpeg.

    from ladder import find_ffmpeg, ladder_named, make_encodes, plan_ladder

    ffmpeg = find_ffmpeg()
    plan = plan_ladder([Path("src.mp4")], ladder_named("apple-hls"), Path("encodes"))
    for row in make_encodes(plan, Path("encodes"), ffmpeg):
        print(row.rung, row.bitrate_kbps)

Stage 1 (`transcode`) makes encodes, stage 2 (`label`) labels them; each stage leaves one CSV
(`tables`) in the work folder and does only what is missing there. Needs no torch.
"""

from ladder.errors import LadderError
from ladder.ffmpeg import Ffmpeg, find_ffmpeg
from ladder.label import labels_table, make_labels, plan_labels
from ladder.probe import VideoInfo, probe
from ladder.rungs import LADDERS, Rung, ladder_named
from ladder.tables import EncodeRow, LabelRow, Table, work_lock
from ladder.transcode import encodes_table, make_encodes, plan_ladder
from ladder.vmaf import model_names

__all__ = [
    "LADDERS",
    "EncodeRow",
    "Ffmpeg",
    "LabelRow",
    "LadderError",
    "Rung",
    "Table",
    "VideoInfo",
    "encodes_table",
    "find_ffmpeg",
    "labels_table",
    "ladder_named",
    "make_encodes",
    "make_labels",
    "model_names",
    "plan_labels",
    "plan_ladder",
    "probe",
    "work_lock",
]
