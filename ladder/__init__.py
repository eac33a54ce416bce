"""Bitrate ladders and VMAF labels, made with ffmpeg.

    from ladder import find_ffmpeg, ladder_named, plan_ladder, make_encodes
    from ladder import make_labels, plan_labels

    ffmpeg, folder = find_ffmpeg(), Path("encodes")
    plan = plan_ladder([Path("src.mp4")], ladder_named("apple-hls"), folder)
    for encode in make_encodes(plan, folder, ffmpeg):
        print(encode.rung, encode.bitrate_kbps)
    for label in make_labels(plan_labels(folder), folder, ffmpeg):
        print(label.rung, label.vmaf, label.vmaf_model)

Stage 1 (`encode`, over `transcode`) makes encodes, stage 2 (`label`, over `vmaf`) labels them;
each stage leaves one CSV (`tables`) in the work folder and does only what is missing there. Needs
no torch.
"""

from ladder.adaptive import ladder_rounds
from ladder.encode.ladders import LADDERS, Ladder, ladder_named
from ladder.encode.plan import EncodeRow, encodes_table, plan_ladder
from ladder.encode.run import make_encodes
from ladder.encode.rungs import Rung
from ladder.errors import LadderError
from ladder.label.metrics import model_names
from ladder.label.rows import LabelRow
from ladder.label.run import LabelOptions, labels_table, make_labels, plan_labels
from ladder.media.ffmpeg import Ffmpeg, find_ffmpeg
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import TimeRange, TrimSpec
from ladder.storage import Table, work_lock

__all__ = [
    "LADDERS",
    "TrimSpec",
    "EncodeRow",
    "Ffmpeg",
    "LabelOptions",
    "LabelRow",
    "Ladder",
    "LadderError",
    "TimeRange",
    "Rung",
    "Table",
    "VideoInfo",
    "encodes_table",
    "find_ffmpeg",
    "labels_table",
    "ladder_named",
    "ladder_rounds",
    "make_encodes",
    "make_labels",
    "model_names",
    "plan_labels",
    "plan_ladder",
    "probe",
    "work_lock",
]
