"""Encodes of `source_video` that labels are tested with, and their VMAF: ours, and by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ladder.encode.plan import EncodeRow, encodes_table
from ladder.encode.rungs import RateMode
from ladder.label.libvmaf import measure, parse_log, pool
from ladder.label.metrics import MetricRequest, log_metric_name
from ladder.label.pairing import Pairing
from ladder.label.rows import LabelRow
from ladder.label.run import LabelOptions, make_labels, plan_labels
from ladder.media.ffmpeg import Ffmpeg, file_url, run
from ladder.media.lengths import count_frames
from ladder.media.probe import probe
from tests.conftest import MakeVideo

V0 = "vmaf_v0.6.1"
NEG = "vmaf_v0.6.1neg"
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-fps_mode", "passthrough")
BY_HAND = "libvmaf=log_fmt=json:log_path=hand.json:model='version=vmaf_v0.6.1'"
"""The last filter of a graph for `vmaf_by_hand`."""


@pytest.fixture(scope="session")
def poor(make_video: MakeVideo, source_video: Path) -> Path:
    """`source_video` with all its frames, at half its size and visibly worse."""
    args = ("-vf", "scale=96:54:flags=bicubic,setsar=1", "-crf", "32", *X264)
    return make_video("poor.mp4", source_video, args)


@pytest.fixture(scope="session")
def coarse(make_video: MakeVideo, source_video: Path) -> Path:
    """`source_video` at its own size and visibly worse."""
    return make_video("coarse.mp4", source_video, ("-crf", "36", *X264))


@pytest.fixture(scope="session")
def late(make_video: MakeVideo, source_video: Path) -> Path:
    """`source_video` without its first frame."""
    args = ("-vf", "trim=start_frame=1,setpts=PTS-STARTPTS", "-crf", "26", *X264)
    return make_video("late.mp4", source_video, args)


@pytest.fixture(scope="session")
def short(make_video: MakeVideo, source_video: Path) -> Path:
    """The first 19 of the 24 frames of `source_video`."""
    return make_video("short.mp4", source_video, ("-frames:v", "19", "-crf", "26", *X264))


def pairing_of(encode: Path, source: Path) -> Pairing:
    return Pairing(frames_source=count_frames(source), frames_encode=count_frames(encode))


def vmaf(encode: Path, source: Path, ffmpeg: Ffmpeg, model: str = V0) -> float:
    """The mean VMAF that our own graph gives."""
    pair = (probe(encode), pairing_of(encode, source))
    (log,) = measure(probe(source), [pair], MetricRequest(models=(model,)), ffmpeg)
    return pool(parse_log(log).metrics[log_metric_name(model)]).mean


def vmaf_by_hand(
    first: Path, second: Path, graph: str, ffmpeg: Ffmpeg, folder: Path, read: Sequence[str] = ()
) -> float:
    """The mean VMAF that ffmpeg gives for a filter graph written out by hand, ending in `BY_HAND`.

    `read` are options both inputs are read with.
    """
    inputs = [*read, "-i", file_url(first), *read, "-i", file_url(second)]
    run(ffmpeg, [*inputs, "-lavfi", graph, "-f", "null", "-"], cwd=folder)
    log = json.loads((folder / "hand.json").read_text())
    return float(log["pooled_metrics"]["vmaf"]["mean"])


def work_folder(folder: Path, source: Path, encodes: dict[str, Path]) -> Path:
    """A work folder as `ladder` leaves it, with the encodes given by the names of their rungs."""
    table = encodes_table(folder)
    (folder / "clip").mkdir(parents=True)
    width, height = probe(source).display_size if source.is_file() else (None, None)
    for name, encode in encodes.items():
        path = f"clip/{name}{encode.suffix}"
        (folder / path).write_bytes(encode.read_bytes())
        table.append(
            EncodeRow(
                source="clip",
                source_path=str(source),
                encode_path=path,
                rung=name,
                codec="libx264",
                rate_mode=RateMode.CRF,
                display_width_px=width,
                display_height_px=height,
                size_bytes=encode.stat().st_size,
            )
        )
    return folder


def label(
    folder: Path,
    ffmpeg: Ffmpeg,
    options: LabelOptions | None = None,
    processes: int = 1,
    **more: Any,
) -> dict[str, LabelRow]:
    """The new labels of a work folder, by rung; without `options`, by the plain model alone."""
    plan = plan_labels(folder, options or LabelOptions(models=(V0,)))
    return {row.rung: row for row in make_labels(plan, folder, ffmpeg, jobs=processes, **more)}


def label_of(
    encode: Path, source: Path, ffmpeg: Ffmpeg, folder: Path, options: LabelOptions | None = None
) -> LabelRow:
    """The label of one encode, from a work folder made for it."""
    name = f"{len(list(folder.iterdir()))}-work"
    return label(work_folder(folder / name, source, {"one": encode}), ffmpeg, options)["one"]
