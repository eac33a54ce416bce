"""VMAF of encodes against their source, with everything that makes the numbers right.

Pure graph builder (`vmaf_args`) and one run (`measure`), which decodes the source once for all of
its encodes; what libvmaf leaves is read by `vmaf_log`.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg as graph

from ladder.errors import VmafError
from ladder.ffmpeg import Ffmpeg, run
from ladder.graphs import Picture, arguments, on_frame_clock, output, picture, shown
from ladder.pieces import Piece
from ladder.probe import VideoInfo
from ladder.vmaf_models import FEATURES, metric_of

_ALWAYS = ("psnr",)


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How frames of an encode and its source are matched: `index`, or `time` if counts differ.

    `offset` frames at the beginning of the encode (negative: of the source) have no partner and
    are left out.
    """

    frames_source: int
    frames_encode: int
    offset: int = 0

    @property
    def by(self) -> str:
        """`index` pairs the n-th with the n-th, exact whatever the timestamps were rounded to."""
        left_in_source = self.frames_source - max(0, -self.offset)
        left_in_encode = self.frames_encode - max(0, self.offset)
        # what was only shifted ends a little later on one side
        is_only_shifted = self.offset and self.frames_source == self.frames_encode
        return "index" if left_in_source == left_in_encode or is_only_shifted else "time"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured of every encode in one run.

    Attributes:
        models: libvmaf's words, see `vmaf_models`.
        features: of `vmaf_models.FEATURES`.
        subsample: every n-th frame is measured; odd, since even steps are biased.
    """

    models: tuple[str, ...]
    features: tuple[str, ...] = ()
    subsample: int = 1


def vmaf_args(
    source: VideoInfo,
    encodes: Sequence[tuple[VideoInfo, Pairing]],
    wanted: Measurement,
    *,
    pieces: tuple[Piece, ...] = (),
    threads: int = 1,
) -> list[str]:
    """ffmpeg arguments that leave the n-th encode's log as `n.json` in the working folder.

    The encode is the first input of libvmaf, the source the second. The encode is brought to the
    source's display size, never the source down; both to one pixel format and limited range.
    """
    pix_fmt = common_pix_fmt([source, *(encode for encode, _ in encodes)], wanted.models)
    # an option of no effect: ffmpeg-python takes two inputs that are alike for one
    reference = shown(picture(source, pieces, stream_loop=0), source.display_size, pix_fmt)
    copies = reference.split() if len(encodes) > 1 else {0: reference}
    outputs = []
    for index, (encode, pairing) in enumerate(encodes):
        distorted = shown(picture(encode), source.display_size, pix_fmt)
        options = _libvmaf_options(wanted, pairing, f"{index}.json", threads // len(encodes))
        measured = graph.filter(
            [
                _paired(distorted, source, pairing, max(0, pairing.offset)),
                _paired(copies[index], source, pairing, max(0, -pairing.offset)),
            ],
            "libvmaf",
            **options,
        )
        outputs.append(output(measured, None, format="null"))
    # -xerror: a broken file must not be labelled by its readable part
    return ["-xerror", *arguments(outputs)]


def measure(
    source: VideoInfo,
    encodes: Sequence[tuple[VideoInfo, Pairing]],
    wanted: Measurement,
    ffmpeg: Ffmpeg,
    *,
    pieces: tuple[Piece, ...] = (),
    threads: int = 1,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> list[str]:
    """libvmaf's JSON log of each of `encodes` against `source`, all measured in one process.

    Raises:
        FfmpegError: one of the files cannot be decoded, or ffmpeg failed.
        VmafError: libvmaf left no log.
    """
    # names of videos never enter the filter graph: a log is a plain name in a folder of its own
    with tempfile.TemporaryDirectory(prefix="vmaf-") as folder:
        args = vmaf_args(source, encodes, wanted, pieces=pieces, threads=threads)
        said = run(ffmpeg, args, cwd=Path(folder), on_progress=on_progress)
        logs = [Path(folder) / f"{index}.json" for index in range(len(encodes))]
        if not all(log.is_file() for log in logs):  # v1 on a picture that is too small for it
            raise VmafError(f"libvmaf gave no figures: {said.strip()[:300] or 'it said nothing'}")
        return [log.read_text(encoding="utf-8") for log in logs]


def common_pix_fmt(videos: Sequence[VideoInfo], models: Sequence[str]) -> str:
    """The pixel format all sides are brought to: 10 bit if one is deeper, or for v1."""
    is_deep = max(video.bit_depth for video in videos) > 8
    return "yuv420p10le" if is_deep or any("v1." in model for model in models) else "yuv420p"


def _paired(stream: Picture, source: VideoInfo, pairing: Pairing, left_out: int) -> Picture:
    """The picture on the clock its frames are paired by, without its first `left_out` frames."""
    if left_out:
        stream = stream.filter("trim", start_frame=left_out)
    if pairing.by == "index":
        # a clock of one tick a frame: Matroska's milliseconds cost 20 VMAF points at 29.97 fps
        return on_frame_clock(stream, source.fps)
    return stream.filter("settb", "AVTB").filter("setpts", "PTS-STARTPTS")


def _libvmaf_options(
    wanted: Measurement, pairing: Pairing, log: str, threads: int
) -> dict[str, str | int]:
    features = dict.fromkeys([*_ALWAYS, *wanted.features])
    options: dict[str, str | int] = {
        "log_fmt": "json",
        "log_path": log,
        "n_threads": max(1, threads),
        "n_subsample": wanted.subsample,
        "shortest": 1,  # else the last frame of the shorter one is repeated and scored
        "model": "|".join(f"version={model}:name={metric_of(model)}" for model in wanted.models),
        "feature": "|".join(f"name={FEATURES[feature]}" for feature in features),
    }
    if pairing.by == "time":
        options["ts_sync_mode"] = "nearest"
    return options
