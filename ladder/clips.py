"""Clean sources for a training: short clips of originals, scaled down until they are clean.

    python -m ladder.clips originals/ -o clean-1080 --height 1080
    python -m ladder.treatments clean-1080 -o wide

An encode is labelled against its source, so what is wrong with the source counts as right. Most
originals are compressed themselves; scaled down, the damage of that is gone where enough bits are
left for each pixel that stays. An original with fewer is refused, and the reason names the height
that it is good for.

A clip begins after 15 % of its original, or where a table says (`--cuts`), which also has clips of
one original under several names. A run that was killed continues.
"""

import argparse
import csv
import functools
import io
import math
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path

from ladder.errors import LadderError, TableError
from ladder.made_videos import (
    VideoCommand,
    add_common_options,
    make_missing,
    one_for_each_name,
    report_progress,
)
from ladder.media.discover import find_videos
from ladder.media.ffmpeg import Ffmpeg, find_ffmpeg
from ladder.media.filters import clock_arguments, compile_arguments, output, video_input
from ladder.media.lengths import video_bytes
from ladder.media.probe import Hdr, VideoInfo, probe
from ladder.media.time_ranges import TimeRange

_SECONDS = 2.4
_BEGIN = 0.15  # of the original
_MIN_BITS_PER_PIXEL = 0.1  # of the original for each pixel of the clip
_MAX_FPS = 31  # faster originals become 30 fps
_CODING = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "15", "-pix_fmt", "yuv420p")


def read_cuts(path: Path) -> dict[str, TimeRange]:
    """The cuts of a table with the columns clip, cut_start and cut_duration, by name of the clip.

    A row without a start begins at 0, one without a duration has that of all clips.

    Raises:
        TableError: a column is missing, or a value is no number of seconds.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is no text in UTF-8: {error}") from error
    with io.StringIO(text, newline="") as file:
        rows = csv.DictReader(file)
        missing = {"clip", "cut_start", "cut_duration"} - set(rows.fieldnames or ())
        if missing:
            raise TableError(f"{path} has no column {', '.join(sorted(missing))}")
        cuts = {}
        for row in rows:
            try:
                cut = TimeRange(
                    float(row["cut_start"] or 0), float(row["cut_duration"] or _SECONDS)
                )
            except (TypeError, ValueError) as error:
                raise TableError(f"{path}, line {rows.line_num}: {error}") from error
            if not (0 <= cut.start_s < math.inf and 0 < cut.length_s < math.inf):
                raise TableError(
                    f"{path}, line {rows.line_num}: a clip of {cut.length_s} s from "
                    f"{cut.start_s} s on: give seconds of at least 0, and a duration above 0"
                )
            cuts[Path(row["clip"] or "").stem] = cut
        return cuts


def make_clips(
    originals: Iterable[Path],
    folder: Path,
    height_px: int,
    ffmpeg: Ffmpeg,
    *,
    cuts: Mapping[str, TimeRange] | None = None,
    jobs: int | None = None,
) -> Generator[tuple[Path, Exception | None]]:
    """Make the clips of these originals that are missing; yields the path of each as it is done.

    A clip that cannot be made leaves no file, and comes with the reason: the original cannot be
    read, is smaller, shorter or compressed too much, is HDR or interlaced, or has the name of
    another; of the last its own path is given.

    Args:
        originals: videos.
        folder: for the clips, which have the names of their originals.
        height_px: of the clips, even; the width of those of upright originals.
        ffmpeg: program to run.
        cuts: of some originals, by their names without the suffix.
        jobs: clips at once; None: one for each core, four at most.

    Raises:
        LockedError: another run uses the folder.
    """
    named, refused = one_for_each_name(originals)
    yield from refused
    videos = {
        name: functools.partial(_command, path, (cuts or {}).get(path.stem), height_px)
        for name, path in named.items()
    }
    yield from make_missing(folder, videos, ffmpeg, jobs=jobs)


def _command(original: Path, cut: TimeRange | None, height_px: int) -> VideoCommand:
    info = probe(original)
    _require_progressive_sdr(info)
    _require_clean(info, height_px)
    begin_s = max(0.0, min(_BEGIN * info.duration_s, info.duration_s - _SECONDS))
    cut = cut or TimeRange(begin_s, _SECONDS)
    # a table may have been made with a length that was rounded
    if cut.start_s + cut.length_s > info.duration_s + 1 / info.fps:
        raise LadderError(
            f"{original} lasts {info.duration_s:.2f} s, and the clip is {cut.length_s:.2f} s "
            f"from {cut.start_s:.2f} s on: give a longer original, or another cut"
        )
    across = f"if(gte(iw,ih),trunc({height_px}*iw/ih/2)*2,{height_px})"
    down = f"if(gte(iw,ih),{height_px},trunc({height_px}*ih/iw/2)*2)"
    stream = video_input(info, (cut,))
    if info.fps > _MAX_FPS:
        stream = stream.filter("fps", 30)
    stream = stream.filter("scale", "iw*sar", "ih").filter("setsar", 1)
    stream = stream.filter("scale", w=across, h=down, flags="lanczos")
    *arguments, _ = compile_arguments([output(stream, None)])
    return VideoCommand(
        [*clock_arguments([cut]), *arguments, *_CODING, "-threads", "1"], cut.length_s
    )


def _require_progressive_sdr(info: VideoInfo) -> None:
    if info.hdr is not Hdr.NONE:
        raise LadderError(f"{info.path} is HDR: convert it to SDR before")
    if info.is_interlaced:
        raise LadderError(f"{info.path} is interlaced: deinterlace it before")


def _require_clean(info: VideoInfo, height_px: int) -> None:
    """Refuse an original that would be enlarged, or whose own damage would stay."""
    size = info.display_size
    # bits of the original for each of its own pixels, of at most 30 frames a second
    shown_s = info.duration_s * min(float(info.fps), 30.0)
    bits = 8 * video_bytes(info.path) / max(1.0, shown_s * size.width_px * size.height_px)
    largest = min(1.0, (bits / _MIN_BITS_PER_PIXEL) ** 0.5) * min(size)
    if height_px <= largest:
        return
    raise LadderError(
        f"{info.path} has {size.width_px}x{size.height_px} px and {bits:.3f} bits a pixel: clean "
        f"enough for {2 * int(largest / 2)} lines, not for {height_px}; choose a lower --height"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the clips; returns the exit code that `vqatool ladder` would."""
    parser = argparse.ArgumentParser(
        prog="python -m ladder.clips", description="Cut clean clips out of originals."
    )
    parser.add_argument(
        "originals", type=Path, nargs="+", metavar="ORIGINAL", help="a video, or a folder"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the clips")
    parser.add_argument(
        "--cuts", type=Path, metavar="CSV", help="table of clip, cut_start and cut_duration"
    )
    add_common_options(parser, height_px=540)
    options = parser.parse_args(arguments)
    try:
        cuts = read_cuts(options.cuts) if options.cuts else {}
    except (TableError, OSError) as error:
        parser.error(str(error))
    clips = options.out.resolve()
    found = find_videos(options.originals).videos
    originals = [path for path in found if clips not in path.resolve().parents]
    if not originals:
        parser.error(f"no video in {', '.join(map(str, options.originals))}")
    made = make_clips(
        originals, options.out, options.height, find_ffmpeg(), cuts=cuts, jobs=options.jobs
    )
    return report_progress(options.out, made)


if __name__ == "__main__":
    sys.exit(main())
