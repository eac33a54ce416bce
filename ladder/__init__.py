"""Make bitrate ladders and VMAF labels with ffmpeg.

    from ladder import find_ffmpeg, ladder_named, plan_ladder, make_encodes
    from ladder import make_labels, plan_labels

    ffmpeg, folder = find_ffmpeg(), Path("encodes")
    plan = plan_ladder([Path("src.mp4")], ladder_named("apple-hls"), folder)
    for encode in make_encodes(plan, folder, ffmpeg):
        print(encode.rung, encode.bitrate_kbps)
    for label in make_labels(plan_labels(folder), folder, ffmpeg):
        print(label.rung, label.vmaf, label.vmaf_model)

Stage 1 (`ladder.encode`) makes encodes, stage 2 (`ladder.label`) labels them. Each stage writes one
CSV in the work folder and does only the work that is missing there. The package does not need
torch.

The names below are imported on first use, so the tables of codecs and metrics can be imported
without PyAV and numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ladder.encode.ladders import LADDERS, Ladder, ladder_named
    from ladder.encode.plan import EncodeRow, encodes_table, plan_ladder
    from ladder.encode.run import make_encodes
    from ladder.encode.rungs import Rung
    from ladder.errors import LadderError
    from ladder.label.elsewhere import plan_pairs
    from ladder.label.files import LabelFiles
    from ladder.label.metrics import model_names
    from ladder.label.pairs import Pair, RungBy
    from ladder.label.rows import LabelRow, labels_table
    from ladder.label.run import LabelOptions, make_labels, plan_labels
    from ladder.media.ffmpeg import Ffmpeg, find_ffmpeg
    from ladder.media.probe import VideoInfo, probe
    from ladder.media.time_ranges import TimeRange, TrimSpec
    from ladder.recommend.adaptive import ladder_rounds
    from ladder.storage import Table, work_lock
    from ladder.treatments import Treatment, draw_treatment, make_treated

_MODULES = {
    "ladder_rounds": "recommend.adaptive",
    "LADDERS": "encode.ladders",
    "Ladder": "encode.ladders",
    "ladder_named": "encode.ladders",
    "EncodeRow": "encode.plan",
    "encodes_table": "encode.plan",
    "plan_ladder": "encode.plan",
    "make_encodes": "encode.run",
    "Rung": "encode.rungs",
    "LadderError": "errors",
    "plan_pairs": "label.elsewhere",
    "LabelFiles": "label.files",
    "model_names": "label.metrics",
    "Pair": "label.pairs",
    "RungBy": "label.pairs",
    "LabelRow": "label.rows",
    "LabelOptions": "label.run",
    "labels_table": "label.rows",
    "make_labels": "label.run",
    "plan_labels": "label.run",
    "Ffmpeg": "media.ffmpeg",
    "find_ffmpeg": "media.ffmpeg",
    "VideoInfo": "media.probe",
    "probe": "media.probe",
    "TimeRange": "media.time_ranges",
    "TrimSpec": "media.time_ranges",
    "Table": "storage",
    "work_lock": "storage",
    "Treatment": "treatments",
    "draw_treatment": "treatments",
    "make_treated": "treatments",
}

__all__ = [
    "LADDERS",
    "EncodeRow",
    "Ffmpeg",
    "LabelFiles",
    "LabelOptions",
    "LabelRow",
    "Ladder",
    "LadderError",
    "Pair",
    "Rung",
    "RungBy",
    "Table",
    "TimeRange",
    "Treatment",
    "TrimSpec",
    "VideoInfo",
    "draw_treatment",
    "encodes_table",
    "find_ffmpeg",
    "labels_table",
    "ladder_named",
    "ladder_rounds",
    "make_encodes",
    "make_labels",
    "make_treated",
    "model_names",
    "plan_labels",
    "plan_ladder",
    "plan_pairs",
    "probe",
    "work_lock",
]


if not TYPE_CHECKING:  # else a type checker accepts every name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"ladder.{_MODULES[name]}"), name)
