"""A training set that covers what people encode: random encodes of clean sources.

    python -m ladder.treatments clean/ -o wide --per-source 20
    vqatool label wide

A ladder has the same few rungs for every source, so a model that learns from it meets one preset,
one length of a group of pictures and few sizes. Worse, a fact of the stream can stand for a
quality: where only bad pictures have a low quantiser, the model learns that a low quantiser is bad.
Here every encode is a `Treatment` drawn at random: codec, rate control, preset, key frames,
B-frames, size, scaler, filter and bit depth, once or twice in a row with qualities drawn apart.
Three of thirteen are nearer to what people have: two with the settings that most people leave as
they are, and one whose quality changes somewhere, as it does where the rate runs out.

A treatment depends on the source's name and its number alone. A run that was killed continues, and
a larger `--per-source` adds to what is there. `encodes.csv` has a row for each encode, as after
`vqatool ladder`, and `treatments.jsonl` has one line with all settings.
"""

import argparse
import contextlib
import functools
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from time import monotonic

import numpy as np

from ladder.codecs import CODECS
from ladder.encode.plan import (
    EncodeRow,
    encodes_table,
    failed_encode,
    failed_source,
    find_sources,
    finished_encode,
    is_done,
    time_of_change,
)
from ladder.encode.rungs import RateMode
from ladder.encode.transcode import VideoLength, measure_length, verify_encode
from ladder.errors import LadderError, TableError
from ladder.media.ffmpeg import Ffmpeg, allocate_workers, file_url, find_ffmpeg, run, run_parallel
from ladder.media.probe import FILE_FAULTS, Size, VideoInfo, probe
from ladder.storage import Status, file_digest, part_of, remove_parts, work_lock

TREATMENTS_FILE = "treatments.jsonl"
"""One JSON object for each encode: `encode_path` and the fields of its `Treatment`."""

_SEED = 20261126
_TIMEOUT_S = 1800.0
_LONGEST_GOP, _LONGEST_LEGACY_GOP = 9999, 300  # frames
_TURNS = 13  # kinds repeat after so many treatments of one source

Table = Sequence[tuple[str | float, float]]
"""Choices with their probabilities, which are scaled to a sum of 1."""

_MODERN: Table = (
    ("libx264", 0.42), ("libx265", 0.2), ("libsvtav1", 0.18), ("libvpx-vp9", 0.2),
)  # fmt: skip
_LEGACY: Table = (
    ("mpeg2video", 0.25), ("mpeg4", 0.2), ("mjpeg", 0.2), ("prores_ks", 0.2), ("dnxhd", 0.15),
)  # fmt: skip
_SCALES: Table = (
    (1.0, 0.5), (0.75, 0.1), (0.667, 0.1), (0.5, 0.15), (0.375, 0.07), (0.25, 0.05), (0.2, 0.03),
)  # fmt: skip
_SCALERS: Table = (
    ("bicubic", 0.5), ("lanczos", 0.2), ("bilinear", 0.12), ("area", 0.1), ("spline", 0.08),
)  # fmt: skip
_GOP_S: Table = ((1.0, 0.1), (2.0, 0.45), (5.0, 0.2), (10.0, 0.05), (0.0, 0.2))
_FILTERS: Table = (
    ("", 0.82), ("unsharp=5:5:0.8", 0.04), ("unsharp=5:5:1.6", 0.02), ("hqdn3d=3:2:4:3", 0.04),
    ("hqdn3d=8:6:10:8", 0.02), ("noise=alls=6:allf=t", 0.03), ("noise=alls=14:allf=t", 0.03),
)  # fmt: skip
_NO_TUNE: Table = (("", 1.0),)
_TUNES: Mapping[str, Table] = {
    "libx264": (
        ("", 0.72), ("film", 0.06), ("animation", 0.06), ("grain", 0.05), ("zerolatency", 0.05),
        ("fastdecode", 0.03), ("psnr", 0.03),
    ),
    "libx265": (
        ("", 0.8), ("grain", 0.06), ("animation", 0.05), ("fastdecode", 0.03),
        ("zerolatency", 0.03), ("psnr", 0.03),
    ),
}  # fmt: skip
_RATES: Table = (
    (RateMode.CRF, 0.62), (RateMode.VBR, 0.16), (RateMode.CAPPED_CRF, 0.06), (RateMode.CBR, 0.06),
    (RateMode.TWO_PASS, 0.1),
)  # fmt: skip
_HAS_NOT: Mapping[str, tuple[RateMode, ...]] = {
    "libsvtav1": (RateMode.CAPPED_CRF, RateMode.CBR, RateMode.TWO_PASS),
    "libvpx-vp9": (RateMode.CBR,),
}
_X26X_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow")
_PRESETS: Mapping[str, Sequence[str]] = {
    "libx264": _X26X_PRESETS,
    "libx265": _X26X_PRESETS[:-1],  # the slow ones take ten times as long
    "libsvtav1": tuple(map(str, range(5, 13))),
    "libvpx-vp9": tuple(map(str, range(1, 9))),
}
# SVT-AV1's fast presets overflow below: CRF 2 gave 27 dB or no decodable file, CRF 6 49 dB
_SMALLEST_CRF = {"libsvtav1": 8}
_CLEAN_CRF = {"libx264": 22, "libx265": 22, "libsvtav1": 28, "libvpx-vp9": 28}  # below these
_BITS_PER_PIXEL = (0.006, 0.6)  # of x264; the others get their `bitrate_factor` of it
_COMMON_PRESETS: Mapping[str, Table] = {
    "libx264": (("medium", 0.55), ("veryfast", 0.2), ("fast", 0.15), ("slow", 0.1)),
    "libx265": (("fast", 0.6), ("medium", 0.4)),
    "libsvtav1": (("8", 0.6), ("10", 0.25), ("6", 0.15)),
    "libvpx-vp9": (("4", 0.6), ("2", 0.4)),
}
_COMMON_RATES: Table = ((RateMode.CRF, 0.55), (RateMode.VBR, 0.3), (RateMode.CAPPED_CRF, 0.15))
_COMMON_GOP_S: Table = ((2.0, 0.7), (5.0, 0.2), (10.0, 0.1))
_COMMON_SCALES: Table = (
    (1.0, 0.42), (0.889, 0.06), (0.8, 0.06), (0.667, 0.18), (0.5, 0.12), (0.433, 0.04),
    (0.4, 0.04), (0.333, 0.04), (0.267, 0.02), (0.2, 0.02),
)  # fmt: skip
_COMMON_CRF = (0.54, 0.11)  # mean and deviation, in shares of the largest
_COMMON_BITS_PER_PIXEL = (0.02, 0.2)
_CHANGES_AT = (0.15, 0.85)  # of the length
_CONTAINERS: Mapping[str, Sequence[str]] = {
    "libx264": ("mp4", "mkv", "ts", "mov"),
    "libx265": ("mp4", "mkv", "mov"),
    "libsvtav1": ("mp4", "mkv", "webm"),
    "libvpx-vp9": ("webm", "mkv", "mp4"),
    "mpeg2video": ("ts", "mkv"),
    "mpeg4": ("mp4", "avi"),
    "mjpeg": ("mov", "mkv"),
    "prores_ks": ("mov",),
    "dnxhd": ("mov",),
}
_HALVES = ("before", "after")
# those that take a second parameter set in the stream, and count time exactly
_JOINING_CONTAINERS: Mapping[str, str] = {
    "libx264": "ts", "libx265": "ts", "libsvtav1": "mp4", "libvpx-vp9": "mp4",
}  # fmt: skip
_MUXERS = {"mkv": "matroska", "ts": "mpegts"}  # where ffmpeg's name is not the suffix
_DNXHR_PROFILES = ("dnxhr_lb", "dnxhr_sq", "dnxhr_hq")


class Kind(StrEnum):
    """What a treatment stands for."""

    CLEAN = "clean"  # the top of the range: near-lossless to good, at the source's size
    SINGLE = "single"
    LEGACY = "legacy"  # MPEG-2, MPEG-4, JPEG, ProRes, DNxHR
    DOUBLE = "double"  # coded twice, the two qualities drawn apart
    COMMON = "common"  # the settings and sizes that most ladders have
    CHANGING = "changing"  # one quality to some frame, another one after it


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One time that a video is coded.

    Attributes:
        codec: ffmpeg's name of the encoder.
        mode: how bits are spent.
        quality: CRF, quantiser scale, or number of the profile, as `mode` says.
        bits_per_pixel: of the modes with a bitrate, and the cap of capped CRF.
        preset, tune: of the encoder; "" for its default.
        gop_s: seconds between key frames; 0: one at the beginning.
        has_b_frames: as the encoder likes, else none.
        bit_depth: 8 or 10.
        scale: height of the coded picture in heights of the source.
        scaler: flag of ffmpeg's scale filter.
        filter: a filter before the scaler; "" for none.
    """

    codec: str
    mode: RateMode
    quality: int
    bits_per_pixel: float
    preset: str
    tune: str
    gop_s: float
    has_b_frames: bool
    bit_depth: int
    scale: float
    scaler: str
    filter: str


@dataclass(frozen=True)
class Change:
    """Where and how the quality of a video changes.

    Attributes:
        at: share of the frames before it, 0 to 1.
        quality: of those after it, on the scale of the generation's.
    """

    at: float
    quality: int


@dataclass(frozen=True)
class Treatment:
    """What is done to a source; `change` is one of the last generation."""

    kind: Kind
    generations: tuple[Generation, ...]
    change: Change | None = None


def draw_treatment(source: str, number: int) -> Treatment:
    """Treatment `number` of a source, the same in every run and on every machine.

    Of thirteen in a row one is `CLEAN`, one `LEGACY`, two `DOUBLE`, six `SINGLE`, two `COMMON` and
    one `CHANGING`.
    """
    own = zlib.crc32(source.encode("utf-8", "surrogateescape"))
    random = np.random.default_rng([_SEED, own, number])
    turn = number % _TURNS
    if turn == 0:
        codec = str(_MODERN[(number // _TURNS + own) % len(_MODERN)][0])
        drawn = _modern(random, codec=codec, scale=1.0, is_filtered=False)
        crf = int(random.integers(_SMALLEST_CRF.get(codec, 0), _CLEAN_CRF[codec]))
        return Treatment(Kind.CLEAN, (replace(drawn, mode=RateMode.CRF, quality=crf),))
    if turn == 2:
        return Treatment(Kind.LEGACY, (_legacy(random),))
    if turn in (5, 8):
        is_legacy = random.random() < 0.12
        first = _legacy(random) if is_legacy else _modern(random, is_filtered=False)
        second = _modern(random, scale=1.0 if random.random() < 0.6 else None)
        return Treatment(Kind.DOUBLE, (first, second))
    if turn in (10, 11):
        return Treatment(Kind.COMMON, (_common(random),))
    if turn == 12:
        only = replace(_modern(random, is_filtered=False), mode=RateMode.CRF)
        change = Change(float(random.uniform(*_CHANGES_AT)), _crf(random, only.codec))
        return Treatment(Kind.CHANGING, (only,), change)
    return Treatment(Kind.SINGLE, (_modern(random),))


def _modern(
    random: np.random.Generator,
    *,
    codec: str | None = None,
    scale: float | None = None,
    is_filtered: bool = True,
) -> Generation:
    codec = codec or str(_pick(random, _MODERN))
    mode = RateMode(str(_pick(random, _RATES)))
    if mode in _HAS_NOT.get(codec, ()):
        mode = RateMode.VBR
    presets = _PRESETS[codec]
    preset = presets[int(random.integers(len(presets)))]
    quality = _crf(random, codec)
    low, high = np.log(_BITS_PER_PIXEL)
    bits_per_pixel = float(np.exp(random.uniform(low, high))) * CODECS[codec].bitrate_factor
    return Generation(
        codec=codec,
        mode=mode,
        quality=quality,
        bits_per_pixel=bits_per_pixel,
        preset=preset,
        tune=str(_pick(random, _TUNES.get(codec, _NO_TUNE))),
        gop_s=float(_pick(random, _GOP_S)),
        has_b_frames=bool(random.random() < 0.8),
        bit_depth=10 if random.random() < 0.14 else 8,
        scale=float(_pick(random, _SCALES)) if scale is None else scale,
        scaler=str(_pick(random, _SCALERS)),
        filter=str(_pick(random, _FILTERS)) if is_filtered else "",
    )


def _common(random: np.random.Generator) -> Generation:
    codec = str(_pick(random, _MODERN))
    mode = RateMode(str(_pick(random, _COMMON_RATES)))
    crf = round(float(np.clip(random.normal(*_COMMON_CRF), 0.2, 0.9)) * CODECS[codec].max_crf)
    low, high = np.log(_COMMON_BITS_PER_PIXEL)
    return Generation(
        codec=codec,
        mode=RateMode.VBR if mode in _HAS_NOT.get(codec, ()) else mode,
        quality=crf,
        bits_per_pixel=float(np.exp(random.uniform(low, high))) * CODECS[codec].bitrate_factor,
        preset=str(_pick(random, _COMMON_PRESETS[codec])),
        tune="",
        gop_s=float(_pick(random, _COMMON_GOP_S)),
        has_b_frames=True,
        bit_depth=8,
        scale=float(_pick(random, _COMMON_SCALES)),
        scaler="bicubic",
        filter="",
    )


def _crf(random: np.random.Generator, codec: str) -> int:
    """Half of the draws are even over the whole range, the others are where most people are."""
    smallest, largest = _SMALLEST_CRF.get(codec, 0), CODECS[codec].max_crf
    if random.random() < 0.55:
        return round(random.uniform(smallest, largest))
    return max(smallest, round(float(np.clip(random.normal(0.52, 0.13), 0.02, 1)) * largest))


def _legacy(random: np.random.Generator) -> Generation:
    codec = str(_pick(random, _LEGACY))
    drawn = replace(_modern(random, codec="libx264"), codec=codec, preset="", tune="", bit_depth=8)
    if codec == "prores_ks":
        quality = int(random.integers(4))
        fixed = replace(drawn, mode=RateMode.PROFILE, quality=quality, bit_depth=10)
        return replace(fixed, scale=1.0, filter="")
    if codec == "dnxhd":
        quality = int(random.integers(len(_DNXHR_PROFILES)))
        return replace(drawn, mode=RateMode.PROFILE, quality=quality, scale=1.0, filter="")
    quality = round(2 + 29 * float(random.random()) ** 1.6)
    scale = 1.0 if random.random() < 0.7 else drawn.scale
    return replace(drawn, mode=RateMode.QSCALE, quality=quality, scale=scale)


def _pick(random: np.random.Generator, table: Table) -> str | float:
    weights = np.array([weight for _, weight in table])
    return table[int(random.choice(len(table), p=weights / weights.sum()))][0]


def coded_size(generation: Generation, display: Size) -> Size:
    """Width and height of the coded picture, even, at least 16 px."""
    width, height = (max(16, 2 * round(side * generation.scale / 2)) for side in display)
    return Size(width, height)


def target_kbps(generation: Generation, size: Size, fps: float) -> int | None:
    """Bitrate of the modes that have one, and the cap of capped CRF."""
    if generation.mode in (RateMode.CRF, RateMode.QSCALE, RateMode.PROFILE):
        return None
    pixels = size.width_px * size.height_px
    return max(20, round(generation.bits_per_pixel * pixels * fps / 1000))


def encoder_args(generation: Generation, size: Size, fps: float) -> list[str]:
    """ffmpeg's options for the encoder; one thread each, so that every run gives the same bits."""
    gop = max(1, round(generation.gop_s * fps)) if generation.gop_s else _LONGEST_GOP
    if generation.mode in (RateMode.QSCALE, RateMode.PROFILE):
        return _legacy_args(generation, gop)
    args = ["-c:v", generation.codec, "-g", str(gop)]
    args += ["-pix_fmt", "yuv420p10le" if generation.bit_depth == 10 else "yuv420p"]
    args += _rate_args(generation, target_kbps(generation, size, fps))
    if generation.tune:
        args += ["-tune", generation.tune]
    preset, has_b = generation.preset, generation.has_b_frames
    match generation.codec:
        case "libx264":
            return [*args, "-preset", preset, "-threads", "1", *([] if has_b else ["-bf", "0"])]
        case "libx265":
            params = f"keyint={gop}:log-level=error:pools=none:frame-threads=1"
            params += "" if has_b else ":bframes=0"
            return [*args, "-preset", preset, "-x265-params", params]
        case "libsvtav1":
            return [*args, "-preset", preset, "-svtav1-params", "lp=1"]
    no_b = [] if has_b else ["-lag-in-frames", "0", "-auto-alt-ref", "0"]
    return [*args, "-deadline", "good", "-cpu-used", preset, "-threads", "1", *no_b]


def _legacy_args(generation: Generation, gop: int) -> list[str]:
    codec, quality = generation.codec, str(generation.quality)
    args = ["-c:v", codec, "-threads", "1"]
    match codec:
        case "prores_ks":
            return [*args, "-profile:v", quality, "-pix_fmt", "yuv422p10le"]
        case "dnxhd":
            return [*args, "-profile:v", _DNXHR_PROFILES[generation.quality], "-pix_fmt", "yuv422p"]
        case "mjpeg":
            return [*args, "-q:v", quality, "-pix_fmt", "yuvj420p"]
    has_b = generation.has_b_frames and codec == "mpeg2video"
    args += ["-q:v", quality, "-pix_fmt", "yuv420p", "-g", str(min(gop, _LONGEST_LEGACY_GOP))]
    return [*args, *(["-bf", "2"] if has_b else [])]


def _rate_args(generation: Generation, kbps: int | None) -> list[str]:
    crf, bitrate = ["-crf", str(generation.quality)], ["-b:v", f"{kbps}k"]
    if generation.codec == "libvpx-vp9":  # a CRF needs a bitrate: the cap, or 0 for none
        cap = {RateMode.CRF: [*crf, "-b:v", "0"], RateMode.CAPPED_CRF: [*crf, *bitrate]}
        return cap.get(generation.mode, bitrate)
    match generation.mode:
        case RateMode.CRF:
            return crf
        case RateMode.CAPPED_CRF:
            return [*crf, "-maxrate", f"{kbps}k", "-bufsize", f"{2 * (kbps or 0)}k"]
        case RateMode.CBR:
            return [
                *bitrate,
                "-minrate",
                f"{kbps}k",
                "-maxrate",
                f"{kbps}k",
                "-bufsize",
                f"{kbps}k",
            ]
        case _:
            return bitrate


def make_treated(
    sources: Iterable[Path],
    folder: Path,
    ffmpeg: Ffmpeg,
    per_source: int,
    *,
    jobs: int | None = None,
) -> Generator[EncodeRow]:
    """Make the treatments 0 to `per_source` - 1 of each source; yields each new row.

    All sources get their first treatment, then their second and so on, so that a run that is ended
    early leaves about as many encodes of each.

    Args:
        sources: clean videos. Files of one stem are one content in several sizes, which have the
            stem as their `source`, so that no split separates them, and a folder for each short
            side, such as `park-1080p`. A second file of one stem and size gets an error row.
        folder: work folder.
        ffmpeg: program to run.
        per_source: treatments of each source.
        jobs: encodes at once; None: one for each core, four at most.

    Raises:
        LockedError: another run uses the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with work_lock(folder):
        table = encodes_table(folder)
        table.repair()
        _repair_notes(folder / TREATMENTS_FILE)
        remove_parts(folder)
        named, failed = _named_sources(sources)
        for row in failed:
            yield table.append(row)
        known = {row.key: row for row in table.rows()}
        wanted = (
            _Job(name, info, number, folder)
            for number in range(per_source)
            for name, info in named.items()
        )
        new_jobs = [
            job
            for job in wanted
            if not ((before := known.get(job.row.key)) and is_done(before, job.row, folder))
        ]
        num_processes, _ = allocate_workers(jobs)
        with (folder / TREATMENTS_FILE).open("a", encoding="utf-8") as notes:
            for job, row in run_parallel(
                lambda job: (job, _make(job, ffmpeg)), new_jobs, num_processes
            ):
                line = {"encode_path": row.encode_path, **asdict(job.treatment)}
                notes.write(json.dumps(line) + "\n")
                notes.flush()
                os.fsync(notes.fileno())
                yield table.append(row)


def read_treatments(folder: Path) -> dict[str, Treatment]:
    """The treatment of each encode of a work folder by its `encode_path`; empty for a ladder's.

    A last line without its end, which a run that was killed may leave, is passed over.

    Raises:
        TableError: the file is not one of this program.
    """
    path = folder / TREATMENTS_FILE
    if not path.exists():
        return {}
    found = {}
    for number, line in enumerate(_whole_lines(path).split("\n")[:-1], 1):
        try:
            fields = json.loads(line)
            generations = tuple(Generation(**each) for each in fields["generations"])
            change = Change(**fields["change"]) if fields.get("change") else None
            found[fields["encode_path"]] = Treatment(Kind(fields["kind"]), generations, change)
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(f"{path}, line {number}: not a treatment: {error!r}") from error
    return found


def _whole_lines(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    return text[: text.rfind("\n") + 1]


def _repair_notes(path: Path) -> None:
    """Drop a last line without its end: the next line would become a part of it."""
    if path.exists():
        os.truncate(path, len(_whole_lines(path).encode("utf-8", "surrogateescape")))


class _Job:
    """One treatment of one source, with the row it will get."""

    def __init__(self, name: str, info: VideoInfo, number: int, folder: Path) -> None:
        self.info, self.folder, self.treatment = info, folder, draw_treatment(name, number)
        last = self.treatment.generations[-1]
        rung = f"{self.treatment.kind}{number:03d}-{last.codec.removeprefix('lib')}"
        containers = _CONTAINERS[last.codec]
        is_changing = self.treatment.change is not None
        if is_changing:
            containers = (_JOINING_CONTAINERS[last.codec],)
        size = coded_size(last, info.display_size)
        has_crf = last.mode in (RateMode.CRF, RateMode.CAPPED_CRF) and not is_changing
        self.row = EncodeRow(
            source=info.path.stem,
            source_path=str(info.path.resolve()),
            encode_path=f"{name}/{rung}.{containers[number % len(containers)]}",
            rung=rung,
            codec=last.codec,
            rate_mode=last.mode,
            target_kbps=target_kbps(last, size, float(info.fps)),
            crf=last.quality if has_crf else None,
            display_width_px=info.display_size.width_px,
            display_height_px=info.display_size.height_px,
            fps=Fraction(info.fps),
            source_size_bytes=info.size_bytes,
            source_modified=time_of_change(info.path),
            source_digest=file_digest(info.path),
        )

    @functools.cached_property
    def length(self) -> VideoLength:
        """Frames and seconds of the source."""
        return measure_length(self.info)

    @property
    def out(self) -> Path:
        """Path of the finished encode."""
        return self.folder / self.row.encode_path


def _named_sources(paths: Iterable[Path]) -> tuple[dict[str, VideoInfo], list[EncodeRow]]:
    """The readable sources by the name of their folder, and an error row for each of the others.

    A name depends on its own file alone, so that it stays when other files come or go.
    """
    named: dict[str, VideoInfo] = {}
    failed: list[EncodeRow] = []
    for path in sorted(paths):
        try:
            info = probe(path)
            name = f"{path.stem.lstrip('.')}-{min(info.display_size)}p"
            if name in named:
                raise LadderError(
                    f"{path} and {named[name].path} have one name and one size: rename one of them"
                )
        except FILE_FAULTS as error:
            failed.append(failed_source(path.stem, path, error))
        else:
            named[name] = info
    return named, failed


def _make(job: _Job, ffmpeg: Ffmpeg) -> EncodeRow:
    """Make one encode; whatever fails becomes an error row without a file."""
    part, started = part_of(job.out), monotonic()
    try:
        job.out.parent.mkdir(exist_ok=True)
        _run_generations(job, part, ffmpeg)
        info, length = verify_encode(part, job.info, job.length)
        row = finished_encode(job.row, info, length, ffmpeg, monotonic() - started)
        part.replace(job.out)
    except FILE_FAULTS as error:
        with contextlib.suppress(OSError):
            part.unlink()
        return failed_encode(job.row, job.info.path, error, ffmpeg)
    return row


def _run_generations(job: _Job, part: Path, ffmpeg: Ffmpeg) -> None:
    current = job.info.path
    with tempfile.TemporaryDirectory(prefix="vqatool-") as text:
        folder = Path(text)
        *firsts, last = job.treatment.generations
        for index, generation in enumerate(firsts):
            out = folder / f"first-{index}.{_CONTAINERS[generation.codec][0]}"
            _encode(job, generation, current, out, ffmpeg, folder)
            current = out
        if job.treatment.change is None or job.length.frame_count < 2:
            _encode(job, last, current, part, ffmpeg, folder, _muxer(job.out))
        else:
            _encode_halves(job, last, job.treatment.change, current, part, ffmpeg, folder)


def _encode_halves(
    job: _Job,
    generation: Generation,
    change: Change,
    current: Path,
    part: Path,
    ffmpeg: Ffmpeg,
    folder: Path,
) -> None:
    """Encode the frames before and after a change one by one and join the streams."""
    last_frame = job.length.frame_count - 1
    at = min(max(1, round(change.at * last_frame)), last_frame)
    halves = (
        (generation, f"trim=end_frame={at}"),
        (replace(generation, quality=change.quality), f"trim=start_frame={at},setpts=PTS-STARTPTS"),
    )
    muxer = _muxer(job.out)
    for name, (half, trim) in zip(_HALVES, halves, strict=True):
        _encode(job, half, current, folder / name, ffmpeg, folder, muxer, before=trim)
    (folder / "halves.txt").write_text("".join(f"file {name}\n" for name in _HALVES), "utf-8")
    args = ["-y", "-f", "concat", "-i", "halves.txt", "-c", "copy", "-f", muxer, file_url(part)]
    run(ffmpeg, args, cwd=folder, timeout_s=_TIMEOUT_S)


def _muxer(path: Path) -> str:
    return _MUXERS.get(path.suffix[1:], path.suffix[1:])


def _encode(
    job: _Job,
    generation: Generation,
    current: Path,
    out: Path,
    ffmpeg: Ffmpeg,
    folder: Path,
    muxer: str = "",
    *,
    before: str = "",
) -> None:
    """Encode `current` once; `before` is a filter in front of all others."""
    size = coded_size(generation, job.info.display_size)
    filters = ",".join(filter(None, (before, _filters(generation, size))))
    inputs = [
        "-xerror", "-y", "-i", file_url(current), "-map", "0:v:0",
        "-vf", filters, "-fps_mode", "passthrough", "-map_metadata", "-1",
    ]  # fmt: skip
    args = encoder_args(generation, size, float(job.info.fps))
    target = ["-f", muxer or _muxer(out), file_url(out)]
    if generation.mode is RateMode.TWO_PASS:
        first = [*inputs, *_pass_args(args, 1), "-f", "null", "-"]
        run(ffmpeg, first, cwd=folder, timeout_s=_TIMEOUT_S)
        args = _pass_args(args, 2)
    run(ffmpeg, [*inputs, *args, *target], cwd=folder, timeout_s=_TIMEOUT_S)


def _filters(generation: Generation, size: Size) -> str:
    # JPEG has no limited range
    range_out = "pc" if generation.codec == "mjpeg" else "tv"
    scale = (
        f"scale={size.width_px}:{size.height_px}:flags={generation.scaler}"
        f":in_range=auto:out_range={range_out}"
    )
    return ",".join(filter(None, (generation.filter, scale, "setsar=1")))


def _pass_args(args: Sequence[str], number: int) -> list[str]:
    if "-x265-params" not in args:
        return [*args, "-pass", str(number), "-passlogfile", "pass"]
    index = args.index("-x265-params") + 1
    params = f"{args[index]}:pass={number}:stats=pass.log"
    return [*args[:index], params, *args[index + 1 :]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the encodes; returns the exit code that `vqatool ladder` would."""
    parser = argparse.ArgumentParser(
        prog="python -m ladder.treatments", description="Make random encodes of clean sources."
    )
    parser.add_argument("sources", nargs="+", type=Path, help="clean videos, or folders of them")
    parser.add_argument("-o", "--out", type=Path, default=Path("encodes"), help="work folder")
    parser.add_argument("--per-source", type=int, default=_TURNS, help="encodes of each source")
    parser.add_argument("--jobs", type=int, help="encodes at once; default: one for each core")
    options = parser.parse_args(arguments)
    made = num_failed = 0
    found = find_sources(options.sources, options.out)
    for path in found.unreadable:
        sys.stderr.write(f"{path}: the folder cannot be read\n")
    if not found.videos:
        sys.stderr.write(f"no video found in {', '.join(map(str, options.sources))}\n")
        return 5
    for row in make_treated(found.videos, options.out, find_ffmpeg(), options.per_source,
                            jobs=options.jobs):  # fmt: skip
        made += row.status is Status.OK
        num_failed += row.status is Status.ERROR
        if row.status is Status.ERROR:
            sys.stderr.write(f"{row.key}: {row.error}\n")
        elif made % 50 == 0:
            sys.stderr.write(f"{made} encodes made, {num_failed} failed\n")
    sys.stderr.write(f"{options.out}: {made} encodes made, {num_failed} failed\n")
    return 4 if num_failed or found.unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
