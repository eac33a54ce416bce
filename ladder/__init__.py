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

from ladder.encode import make_encodes
from ladder.errors import LadderError
from ladder.ffmpeg import Ffmpeg, find_ffmpeg
from ladder.label import LabelOptions, labels_table, make_labels, plan_labels
from ladder.ladders import LADDERS, Ladder, ladder_named
from ladder.pieces import Cut, Piece
from ladder.plan import encodes_table, plan_ladder
from ladder.probe import VideoInfo, probe
from ladder.rungs import Rung
from ladder.spread import ladder_rounds
from ladder.tables import EncodeRow, LabelRow, Table, work_lock
from ladder.vmaf_models import model_names

__all__ = [
    "LADDERS",
    "Cut",
    "EncodeRow",
    "Ffmpeg",
    "LabelOptions",
    "LabelRow",
    "Ladder",
    "LadderError",
    "Piece",
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
