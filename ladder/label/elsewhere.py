"""Plan the labels of encodes made elsewhere: pairs of a source and an encode, without a ladder."""

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from ladder.encode.plan import EncodeRow, encodes_table, source_name, time_of_change
from ladder.errors import ListError, RemoteError, TableError
from ladder.label.files import LabelFiles
from ladder.label.pairs import Pair, RungBy, rung_of
from ladder.label.rows import LabelRow, label_row_type
from ladder.label.run import AUTO_VMAF, LabelOptions, LabelPlan, is_complete
from ladder.media.playlists import size_bytes
from ladder.media.probe import FILE_FAULTS, VideoInfo, probe


def plan_pairs(
    pairs: Iterable[Pair],
    files: LabelFiles,
    options: LabelOptions = AUTO_VMAF,
    *,
    rung_by: RungBy = RungBy.BITRATE,
    needs_logs: bool = False,
) -> LabelPlan:
    """Which encodes made elsewhere lack a label with these options.

    A label is missing too if its source or its encode was replaced by another file since.

    Args:
        pairs: encodes and their sources.
        files: where the labels are kept.
        options: what a label must hold.
        rung_by: what the rung of an encode is, if its pair has none.
        needs_logs: a label without its log of every frame is missing.

    Raises:
        ListError: an encode has two sources.
        TableError: the table is of another program or version.
    """
    known = {row.key: row for row in files.table.rows()}
    missing: list[LabelRow] = []
    done: list[LabelRow] = []
    for planned in _planned_labels(pairs, files, known.values()):
        before = known.get(planned.key)
        if before and _is_kept(before, planned, files, options, needs_logs=needs_logs):
            rung = planned.rung or rung_of(before, files.path(before.encode_path), rung_by)
            done.append(replace(before, source=planned.source, rung=rung))
        else:
            missing.append(planned)
    paths = dict.fromkeys(label.source_path for label in missing)
    sources = {path: _probed(files.path(path)) for path in paths}
    # in the order of their sources, which are decoded once for several encodes
    missing.sort(key=lambda label: label.source_path)
    jobs = tuple(_job(label, files, sources[label.source_path]) for label in missing)
    return LabelPlan(jobs, tuple(done), options, {row.key: row for row in missing}, rung_by)


def _planned_labels(
    pairs: Iterable[Pair], files: LabelFiles, known: Iterable[LabelRow]
) -> list[LabelRow]:
    """The beginning of the row of each encode: its files, and what tells them from others."""
    names, stamp = _names_of_sources(files, known), cache(_stamp)  # sources come again and again
    planned: dict[str, LabelRow] = {}
    for pair in pairs:
        source, encode = files.shown(pair.source), files.shown(pair.encode)
        before = planned.get(encode)
        if before and before.source_path != source:
            raise ListError(
                f"{encode} is paired with {before.source_path} and with {source}: name one source "
                "for each encode, or write two tables"
            )
        size_bytes, modified = stamp(pair.encode)
        source_size_bytes, source_modified = stamp(pair.source)
        planned[encode] = label_row_type()(
            encode_path=encode,
            source=source_name(pair.source, names),
            rung=pair.rung,
            size_bytes=size_bytes,
            modified=modified,
            source_path=source,
            source_size_bytes=source_size_bytes,
            source_modified=source_modified,
        )
    return list(planned.values())


def _names_of_sources(files: LabelFiles, known: Iterable[LabelRow]) -> dict[str, str]:
    """The names of sources that the table and the ladder of its folder use, and their paths."""
    names = {
        row.source: str(files.path(row.source_path).resolve()) for row in known if row.source_path
    }
    if files.is_of_work_folder:
        with contextlib.suppress(TableError):  # of another program: it names no source of ours
            encodes = encodes_table(files.table_path.parent).rows()
            names |= {row.source: row.source_path for row in encodes}
    return names


def _is_kept(
    before: LabelRow,
    planned: LabelRow,
    files: LabelFiles,
    options: LabelOptions,
    *,
    needs_logs: bool,
) -> bool:
    """Whether the label of an earlier run is the one that would be made now."""
    return (
        _identity(before) == _identity(planned)
        and is_complete(before, _encode_row(before, files), options)
        and (files.log(before.key).is_file() or not needs_logs)
    )


def _identity(label: LabelRow) -> tuple[object, ...]:
    """What tells the files of a label from others that may take their places."""
    source = (label.source_path, label.source_size_bytes, label.source_modified)
    return (*source, label.size_bytes, label.modified)


def _encode_row(label: LabelRow, files: LabelFiles) -> EncodeRow:
    """The encode as the ladder that made it would have written it down."""
    return EncodeRow(
        source=label.source,
        source_path=str(files.path(label.source_path)),
        encode_path=label.encode_path,
        rung=label.rung,
        codec="",
        rate_mode=None,
        display_width_px=label.display_width_px,
        display_height_px=label.display_height_px,
    )


def _job(label: LabelRow, files: LabelFiles, source: VideoInfo | None) -> EncodeRow:
    row = _encode_row(label, files)
    if source is None:  # the run makes an error row of it
        return row
    width, height = source.display_size
    return replace(
        row,
        display_width_px=width,
        display_height_px=height,
        # of the source, for the time left
        frame_count=round(source.duration_s * source.fps),
    )


def _probed(source: Path) -> VideoInfo | None:
    try:
        return probe(source)
    except FILE_FAULTS:
        return None


def _stamp(path: Path) -> tuple[int | None, str]:
    """Size and time of the last change of a file; the run makes an error row of one that has none.

    Taken before the file is measured: one that is replaced meanwhile is measured again next time.
    """
    try:
        return size_bytes(path), time_of_change(path)
    except (OSError, RemoteError):
        return None, ""
