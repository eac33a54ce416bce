"""Plan stage 1: which encodes of which sources are missing in a work folder."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from ladder.codecs import CODECS, X264
from ladder.encode.ladders import Ladder, fitting
from ladder.encode.rungs import RateMode, Rung
from ladder.encode.transcode import VideoLength
from ladder.errors import LadderError, VmafError
from ladder.media.discover import DiscoveredFiles, find_videos, real_path
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.playlists import size_bytes
from ladder.media.probe import FILE_FAULTS, VideoInfo, fault_message, probe
from ladder.media.remote import RemotePath, as_path
from ladder.media.time_ranges import FULL, TimeRange, TrimSpec, format_time_ranges
from ladder.media.tonemap import CURVE
from ladder.storage import Status, Table, digest, file_digest, part_of

logger = logging.getLogger(__name__)

_MAX_STEM_BYTES = 240  # of a folder's name that a digest follows; a name has 255 at the most


@dataclass(frozen=True, kw_only=True)
class EncodeRow:
    """One source at one rung, a row of `encodes.csv`.

    `source_path` is absolute, `encode_path` is relative to the work folder. `source_size_bytes`,
    `source_modified` (UTC, ISO 8601) and `source_digest` (of samples of its bytes) identify the
    source's content; they are empty in tables of earlier versions. The row of a source that cannot
    be read has an empty `encode_path`.
    """

    source: str
    source_path: str
    encode_path: str
    rung: str
    codec: str
    rate_mode: RateMode | None
    target_kbps: int | None = None
    bitrate_kbps: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    display_width_px: int | None = None
    display_height_px: int | None = None
    fps: Fraction | None = None
    frame_count: int | None = None
    duration_s: float | None = None
    size_bytes: int | None = None
    ffmpeg_version: str = ""
    encode_s: float | None = None
    status: Status = Status.OK
    error: str = ""
    crf: int | None = None
    pieces: str = ""
    source_size_bytes: int | None = None
    source_modified: str | None = None
    source_digest: str = ""
    tonemap: str = ""

    @property
    def key(self) -> str:
        """The encode's path inside the work folder; for a source without encodes its own path."""
        return self.encode_path or self.source_path


@dataclass(frozen=True)
class Source:
    """A source that can be encoded.

    Attributes:
        name: name of its folder inside the work folder.
        info: what `probe` found.
        time_ranges: the parts of it that are encoded; none: all of it.
        modified: time of its last change, UTC, ISO 8601.
        digest: of samples of its bytes.
    """

    name: str
    info: VideoInfo
    time_ranges: tuple[TimeRange, ...]
    modified: str
    digest: str


@dataclass(frozen=True)
class EncodeJob:
    """One encode to be made; `folder` is the work folder."""

    row: EncodeRow
    source: Source
    rung: Rung
    folder: Path

    def with_file(self, path: Path) -> "EncodeJob":
        """The same job with another file of its source, such as a copy of a remote one."""
        info = replace(self.source.info, path=path)
        return replace(self, source=replace(self.source, info=info))

    @property
    def cost(self) -> float:
        """Weight of the work, for the ETA: pixels x seconds x the codec's cost, over all passes."""
        width, height = self.rung.size_for(self.source.info.display_size)
        num_passes = 2 if self.rung.two_pass else 1
        own_width, own_height = self.source.info.display_size
        reencode = own_width * own_height * X264.encode_cost if self.rung.reencode_crf else 0.0
        trimmed_s = sum(time_range.length_s for time_range in self.source.time_ranges)
        duration_s = max(trimmed_s or self.source.info.duration_s, 0.1)
        encode = width * height * CODECS[self.rung.codec].encode_cost * num_passes
        return (encode + reencode) * duration_s

    @property
    def out(self) -> Path:
        """Path of the finished encode."""
        return self.folder / self.row.encode_path

    @property
    def part(self) -> Path:
        """Path of the encode until it is verified."""
        return part_of(self.out)


@dataclass(frozen=True)
class LadderPlan:
    """Encodes to make (`jobs`), encodes made before (`done`), sources that failed (`failed`).

    `too_large` are the rungs of the ladder above the size of a source, which it has no encode of.
    """

    jobs: tuple[EncodeJob, ...]
    done: tuple[EncodeRow, ...]
    failed: tuple[EncodeRow, ...] = ()
    too_large: tuple[tuple[Source, tuple[Rung, ...]], ...] = ()


def encodes_table(folder: Path) -> Table[EncodeRow]:
    """The table that stage 1 writes."""
    return Table(folder / "encodes.csv", EncodeRow)


def find_sources(paths: Sequence[Path], folder: Path) -> DiscoveredFiles:
    """What `find_videos` finds in `paths`, without the encodes that the work folder `folder` holds.

    A video that a source's folder inside the work folder holds is an encode, unless it is a source
    of the table or named itself.

    Raises:
        TableError: `encodes.csv` is not a table of this program.
    """
    rows = encodes_table(folder).rows()
    kept = {real_path(path) for path in paths if not path.is_dir()}
    kept |= {as_path(row.source_path) for row in rows}
    encode_folders = {
        real_path((folder / row.encode_path).parent) for row in rows if row.encode_path
    }
    sources = []
    found = find_videos(paths)
    for path in found.videos:
        full = real_path(path)
        if full in kept or not encode_folders & set(full.parents):
            sources.append(path)
        else:
            logger.info("%s is an encode of this work folder, not a source", path)
    return replace(found, videos=tuple(sources))


def plan_ladder(
    sources: Iterable[Path],
    ladder: Ladder,
    folder: Path,
    trim: TrimSpec = FULL,
    *,
    tonemap: bool = False,
) -> LadderPlan:
    """Compare the wanted encodes with those that `folder` holds; writes nothing.

    Every rung that fits is planned. `ladder.num_rungs` is ignored here: an adaptive ladder chooses
    its rungs between rounds (`ladder.recommend.adaptive`). With `tonemap`, encodes of HDR sources
    are SDR.
    """
    found, failed = read_sources(sources, ladder, folder, trim, tonemap=tonemap)
    wanted = [(source, fitting(ladder, source.info.display_size)) for source in found]
    too_large = [
        (source, tuple(rung for rung in ladder.rungs if rung not in rungs))
        for source, rungs in wanted
        if len(rungs) < len(ladder.rungs)
    ]
    plan = plan_encodes(wanted, folder)
    return replace(plan, failed=tuple(failed), too_large=tuple(too_large))


def read_sources(
    paths: Iterable[Path], ladder: Ladder, folder: Path, trim: TrimSpec, *, tonemap: bool = False
) -> tuple[list[Source], list[EncodeRow]]:
    """The sources that can be encoded, and an error row for each of the others."""
    names = {row.source: row.source_path for row in encodes_table(folder).rows()}
    found: list[Source] = []
    failed: list[EncodeRow] = []
    for path in paths:
        name = source_name(path, names)
        try:
            modified = time_of_change(path)
            info = probe(path, tonemap=tonemap)
            _refuse_too_small(info, ladder)
            ranges = trim.ranges_of(info)
            found.append(Source(name, info, ranges, modified, digest_of_source(path)))
        except FILE_FAULTS as error:
            failed.append(failed_source(name, path, error))
    return found, failed


def time_of_change(path: Path) -> str:
    """When a file was changed last, UTC, ISO 8601; of a remote one its ETag; "" for no file.

    Raises:
        OSError: it cannot be told.
        RemoteError: its store cannot be asked.
    """
    if isinstance(path, RemotePath):
        return path.facts().etag
    if not path.is_file():
        return ""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="microseconds")


def digest_of_source(path: Path) -> str:
    """Of samples of a file's bytes; of a remote one its ETag, which is a digest of all of them."""
    return digest(path.facts().etag) if isinstance(path, RemotePath) else file_digest(path)


def plan_encodes(wanted: Iterable[tuple[Source, Sequence[Rung]]], folder: Path) -> LadderPlan:
    """Which of the wanted encodes have to be made."""
    known = {row.key: row for row in encodes_table(folder).rows()}
    jobs: list[EncodeJob] = []
    done: list[EncodeRow] = []
    for source, rungs in wanted:
        for rung in rungs:
            planned = _planned_row(source, rung)
            former_path = _encode_path(source.name, rung.former_name)
            if former_path in known:  # the encode of an earlier version keeps its name
                planned = replace(planned, encode_path=former_path, rung=rung.former_name)
            job = EncodeJob(planned, source, rung, folder)
            before = known.get(planned.key)
            if before and is_done(before, planned, folder):
                done.append(before)
            else:
                jobs.append(job)
    return LadderPlan(tuple(jobs), tuple(done))


def _refuse_too_small(info: VideoInfo, ladder: Ladder) -> None:
    if not fitting(ladder, info.display_size):
        smallest_px = min(rung.height_px for rung in ladder.rungs)
        width, height = info.display_size
        raise LadderError(
            f"{info.path} is {width}x{height}, smaller than every rung (from {smallest_px} px on): "
            "choose another ladder with --rungs"
        )


def _encode_path(source: str, rung: str) -> str:
    return f"{source}/{rung}.mp4"


def _planned_row(source: Source, rung: Rung) -> EncodeRow:
    width, height = source.info.display_size
    return EncodeRow(
        source=source.name,
        source_path=str(real_path(source.info.path)),
        encode_path=_encode_path(source.name, rung.name),
        rung=rung.name,
        codec=rung.codec,
        rate_mode=rung.rate_mode,
        target_kbps=rung.bitrate_kbps,
        crf=rung.crf,
        display_width_px=width,
        display_height_px=height,
        fps=Fraction(source.info.fps),
        pieces=format_time_ranges(source.time_ranges),
        source_size_bytes=source.info.size_bytes,
        source_modified=source.modified,
        source_digest=source.digest,
        tonemap=CURVE if source.info.is_tonemapped else "",
    )


def failed_source(name: str, path: Path, error: Exception) -> EncodeRow:
    """The error row of a source that cannot be read."""
    return EncodeRow(
        source=name,
        source_path=str(real_path(path)),
        encode_path="",
        rung="",
        codec="",
        rate_mode=None,
        status=Status.ERROR,
        error=fault_message(path, error),
    )


def failed_encode(row: EncodeRow, source: Path, error: Exception, ffmpeg: Ffmpeg) -> EncodeRow:
    """The error row of an encode that could not be made from the file `source`."""
    message = fault_message(source, error)
    return replace(row, status=Status.ERROR, error=message, ffmpeg_version=ffmpeg.version)


def finished_encode(
    row: EncodeRow, info: VideoInfo, length: VideoLength, ffmpeg: Ffmpeg, encode_s: float
) -> EncodeRow:
    """The planned row with what the finished file really is."""
    return replace(
        row,
        bitrate_kbps=info.size_bytes * 8 / 1000 / length.duration_s,
        width_px=info.width_px,
        height_px=info.height_px,
        fps=info.fps,
        frame_count=length.frame_count,
        duration_s=length.duration_s,
        size_bytes=info.size_bytes,
        ffmpeg_version=ffmpeg.version,
        encode_s=encode_s,
    )


def source_name(path: Path, names: dict[str, str]) -> str:
    """The file's stem, with a digest of its path if another source in `names` has that stem.

    `names` holds the path of each name, and gets that of this one. The name becomes a folder beside
    the stages' own files, so it must not be hidden, leave the work folder, or look like one of
    those files.
    """
    full = str(real_path(path))
    name = path.stem.lstrip(".") or "source"
    if name.lower().endswith((".csv", ".part")):
        name += "_"
    if names.get(name, full) != full:
        short = os.fsdecode(os.fsencode(name)[:_MAX_STEM_BYTES])
        name = f"{short}-{digest(full, size=3)}"
    names[name] = full
    return name


def is_done(before: EncodeRow, planned: EncodeRow, folder: Path) -> bool:
    """Whether the encode of an earlier run is there and is the one that is planned now."""
    made, wanted = (before.pieces, before.tonemap), (planned.pieces, planned.tonemap)
    if before.status != Status.OK or made != wanted:
        return False
    if not has_same_source(before, planned):
        logger.info("%s has changed: %s is made again", before.source_path, before.encode_path)
        return False
    out = folder / before.encode_path
    return out.is_file() and out.stat().st_size == before.size_bytes


def has_same_source(before: EncodeRow, planned: EncodeRow) -> bool:
    """Whether the source's file is still the one that `before` was made from.

    A copy, a checkout or `touch` changes the time alone: the content decides then.
    """
    if before.source_size_bytes is None:  # a row from before these columns existed
        return True
    if before.source_size_bytes != planned.source_size_bytes:
        return False
    if before.source_modified == planned.source_modified:
        return True
    return bool(before.source_digest) and before.source_digest == planned.source_digest


def require_same_source(row: EncodeRow) -> None:
    """Raise VmafError if another file has taken the place of the one that was encoded.

    A copy has another time of change, so the content decides where size and time do not. A row of
    an earlier version knows less, and a file that is gone is no other one.
    """
    path = as_path(row.source_path)
    if row.source_size_bytes is None or not path.is_file():
        return
    size = size_bytes(path)
    if size != row.source_size_bytes:
        change = f"has {size} bytes, it had {row.source_size_bytes}"
    elif row.source_modified == time_of_change(path) or row.source_digest in (
        "",
        digest_of_source(path),
    ):
        return
    else:
        change = "has another content than it had"
    raise VmafError(f"{path} {change} when {row.encode_path} was made: run `vqatool ladder` again")
