"""Planning: names of sources, rungs that fit, encodes of earlier runs, groups of one process."""

import csv
import dataclasses
import os
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from ladder.codecs import CODECS
from ladder.encode.plan import EncodeJob, encodes_table, find_sources
from ladder.encode.run import group_jobs, shell_commands
from ladder.encode.rungs import Rung
from ladder.errors import LadderError
from ladder.media.ffmpeg import Ffmpeg, partition_outputs
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import TimeRange, TrimSpec
from tests.conftest import MakeVideo
from tests.ladder.works import files_in, made, planned

CHEAP = (Rung(height_px=48, crf=40),)
TWO = tuple(Rung(height_px=48, crf=crf) for crf in (30, 40))

ODD_NAMES = [
    "two words", "quote's", 'double "quote"', "comma, semi;colon", "co:lon", "two\nlines",
    "\U0001f3ac", "-dash", "100%d", "[0:v]", "back\\slash", "$HOME", ".hidden",
]  # fmt: skip


@pytest.fixture(scope="module")
def short_source(make_video: MakeVideo, source_video: Path) -> Path:
    """The first ten frames of `source_video`."""
    return make_video("ten.mp4", source_video, ["-frames:v", "10", "-c", "copy"])


# ---- what has to be made


def test_a_plan_names_every_encode_and_writes_nothing(short_source: Path, tmp_path: Path) -> None:
    rung = Rung(height_px=64, codec="libsvtav1", crf=40)
    (job,) = planned([short_source], [rung], tmp_path, TrimSpec(clip=TimeRange(0.1, 0.2))).jobs
    row = job.row
    assert (row.source, row.source_path) == ("ten", str(short_source.resolve()))
    assert (row.rung, row.encode_path) == (rung.name, f"ten/{rung.name}.mp4")
    assert (row.codec, row.rate_mode, row.crf, row.target_kbps) == ("libsvtav1", "crf", 40, None)
    assert (row.display_width_px, row.display_height_px, row.fps) == (192, 108, Fraction(25))
    assert row.pieces == "0.1+0.2"
    assert job.out == tmp_path / row.encode_path
    assert (job.part.parent, job.part.suffix) == (job.out.parent, ".part")
    assert files_in(tmp_path) == set()


def test_rungs_above_the_source_are_left_out_of_the_plan(
    short_source: Path, tmp_path: Path
) -> None:
    rungs = [Rung(height_px=h, crf=30) for h in (48, 108, 110, 720)]
    plan = planned([short_source], rungs, tmp_path)
    assert [job.rung.height_px for job in plan.jobs] == [48, 108]


def test_a_source_smaller_than_every_rung_is_an_error_row(
    short_source: Path, tmp_path: Path
) -> None:
    plan = planned([short_source], [Rung(height_px=720, crf=30)], tmp_path)
    (row,) = plan.failed
    assert (plan.jobs, row.status, row.key) == ((), "error", str(short_source.resolve()))
    assert "192x108" in row.error
    assert "from 720 px on" in row.error


@pytest.mark.parametrize("harm", ["deleted", "truncated"])
def test_a_deleted_or_truncated_encode_is_made_again(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path, harm: str
) -> None:
    first, second = made([short_source], TWO, tmp_path, ffmpeg)
    encode = tmp_path / first.encode_path
    if harm == "deleted":
        encode.unlink()
    else:
        os.truncate(encode, 100)

    plan = planned([short_source], TWO, tmp_path)

    assert [job.row.key for job in plan.jobs] == [first.key]
    assert [row.key for row in plan.done] == [second.key]
    (again,) = made([short_source], TWO, tmp_path, ffmpeg)
    assert encode.stat().st_size == again.size_bytes == first.size_bytes
    assert [row.key for row in encodes_table(tmp_path).rows()] == [first.key, second.key]


def replace_by(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(1, 1))


def test_encodes_of_a_replaced_source_are_made_again(
    short_source: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source, folder = tmp_path / "src.mp4", tmp_path / "work"
    source.write_bytes(short_source.read_bytes())
    made([source], TWO, folder, ffmpeg)
    assert planned([source], TWO, folder).jobs == ()

    replace_by(source, source_video)

    assert len(planned([source], TWO, folder).jobs) == 2
    (row,) = made([source], CHEAP, folder, ffmpeg)
    assert row.frame_count == 24  # of the new film
    assert row.source_size_bytes == source.stat().st_size
    assert row.source_modified == "1970-01-01T00:00:00.000000+00:00"
    assert planned([source], CHEAP, folder).jobs == ()
    # the encode of the old film at the other rung is not one of this source
    assert encodes_table(folder).rows() == [row]


def test_a_source_of_equal_size_is_encoded_again_where_its_content_has_changed(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source, folder = tmp_path / "src.mp4", tmp_path / "work"
    film, padding = short_source.read_bytes(), b"\0\0\0\x10free"
    source.write_bytes(film + padding + b"one film")
    (row,) = made([source], CHEAP, folder, ffmpeg)
    os.utime(source, ns=(2, 2_000_000))  # as a copy or a checkout does
    plan = planned([source], CHEAP, folder)
    assert (plan.jobs, plan.done) == ((), (row,))
    assert made([source], CHEAP, folder, ffmpeg) == []
    assert encodes_table(folder).rows() == [row]
    source.write_bytes(film + padding + b"another.")
    assert len(planned([source], CHEAP, folder).jobs) == 1
    # a table of an earlier version has no digests: the time decides
    encodes_table(folder).rewrite([dataclasses.replace(row, source_digest="")])
    source.write_bytes(film + padding + b"one film")
    assert len(planned([source], CHEAP, folder).jobs) == 1


def test_a_row_without_source_size_and_time_counts_as_done(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    made([short_source], CHEAP, tmp_path, ffmpeg)
    table = tmp_path / "encodes.csv"
    header, *rows = csv.reader(table.read_text().splitlines())
    num_known = header.index("pieces") + 1
    cut = [",".join(cells[:num_known]) for cells in (header, *rows)]
    table.write_text("\n".join(cut) + "\n")
    plan = planned([short_source], CHEAP, tmp_path)
    assert (plan.jobs, len(plan.done)) == ((), 1)


def test_an_encode_with_the_former_rung_name_counts_as_done(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    rung = Rung(height_px=48, crf=40, reencode_crf=14)
    made([short_source], [rung], tmp_path, ffmpeg)
    old = "48p-crf40-x264-laundered14"
    (tmp_path / "ten" / f"{rung.name}.mp4").rename(tmp_path / "ten" / f"{old}.mp4")
    table = tmp_path / "encodes.csv"
    table.write_text(table.read_text().replace(rung.name, old))
    plan = planned([short_source], [rung], tmp_path)
    assert plan.jobs == ()
    assert [row.rung for row in plan.done] == [old]
    assert made([short_source], [rung], tmp_path, ffmpeg) == []
    assert [row.rung for row in encodes_table(tmp_path).rows()] == [old]
    # an encode that is lost is made again under its old name
    (tmp_path / "ten" / f"{old}.mp4").unlink()
    assert [row.rung for row in made([short_source], [rung], tmp_path, ffmpeg)] == [old]


# ---- sources and encodes in one folder


def test_a_source_inside_the_work_folder_is_encoded_and_its_encodes_are_not(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = tmp_path / "src.mp4"
    source.write_bytes(short_source.read_bytes())
    for named in (tmp_path, source):
        assert find_sources([named], tmp_path).videos == (source,)
    made([source], TWO, tmp_path, ffmpeg)
    for named in (tmp_path, source):
        assert find_sources([named], tmp_path).videos == (source,)
    encode = tmp_path / "src" / f"{TWO[0].name}.mp4"
    assert find_sources([encode], tmp_path).videos == (encode,)  # it was named
    other = tmp_path / "more" / "other.mp4"
    other.parent.mkdir()
    other.write_bytes(short_source.read_bytes())
    assert find_sources([tmp_path], tmp_path).videos == (other, source)


def test_a_source_in_the_folder_of_its_encodes_is_still_found(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = tmp_path / "src" / "src.mp4"  # where its encodes go too
    source.parent.mkdir()
    source.write_bytes(short_source.read_bytes())
    made([source], CHEAP, tmp_path, ffmpeg)
    assert find_sources([tmp_path], tmp_path).videos == (source,)


def test_a_new_rung_needs_only_its_own_encode(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    made([short_source], CHEAP, tmp_path, ffmpeg)
    (row,) = made([short_source], TWO, tmp_path, ffmpeg)
    assert row.rung == "48p-crf30-x264"
    assert len(encodes_table(tmp_path).rows()) == 2


def test_the_cost_depends_on_pixels_seconds_codec_and_passes(
    source_video: Path, tmp_path: Path
) -> None:
    def cost(rung: Rung, trim: TrimSpec = TrimSpec()) -> float:  # noqa: B008  # it is frozen
        (job,) = planned([source_video], [rung], tmp_path, trim).jobs
        return job.cost

    base = cost(Rung(height_px=54, bitrate_kbps=60))
    assert cost(Rung(height_px=108, bitrate_kbps=60)) == pytest.approx(4 * base)
    assert cost(Rung(height_px=54, bitrate_kbps=60, two_pass=True)) == pytest.approx(2 * base)
    assert cost(Rung(height_px=54, bitrate_kbps=60, codec="libx265")) > base
    half = TrimSpec(clip=TimeRange(0, 0.48))
    assert cost(Rung(height_px=54, bitrate_kbps=60), half) == pytest.approx(base / 2)


# ---- names of sources


@pytest.mark.slow
def test_a_source_with_any_file_name_is_encoded_and_found_done(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    sources = [tmp_path / f"{name}.mp4" for name in ODD_NAMES]
    for source in sources:
        source.write_bytes(short_source.read_bytes())
    folder = tmp_path / "encodes"
    rows = made(sources, CHEAP, folder, ffmpeg, jobs=2)
    assert {row.source_path: row.error for row in rows} == dict.fromkeys(map(str, sources), "")
    assert {row.frame_count for row in rows} == {10}
    assert len(encodes_table(folder).rows()) == len(ODD_NAMES)

    plan = planned(sources, TWO, folder)
    assert (len(plan.done), len(plan.jobs)) == (len(ODD_NAMES), len(ODD_NAMES))
    (row,) = made(sources[:1], TWO, folder, ffmpeg)
    assert row.status == "ok"


@pytest.mark.parametrize(
    "name",
    ["...mp4", "..mp4", "x.part.mp4", "encodes.csv.mp4", "encodes.csv.part.mp4", ".lock.mp4"],
)
def test_no_source_name_makes_encodes_leave_the_folder_or_overwrite_the_table(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path, name: str
) -> None:
    source = tmp_path / "films" / name
    source.parent.mkdir()
    source.write_bytes(short_source.read_bytes())
    folder = tmp_path / "films" / "encodes"
    for rung in TWO:
        (row,) = made([source], [rung], folder, ffmpeg)
        assert row.error == ""
        assert (folder / row.encode_path).resolve().is_relative_to(folder)
    assert len(encodes_table(folder).rows()) == 2
    assert {path.name for path in source.parent.iterdir()} == {name, "encodes"}


def test_two_sources_of_one_name_do_not_collide_in_this_run_or_the_next(
    make_video: MakeVideo, short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    other = make_video("other.mp4", "testsrc2=size=96x64:rate=25:duration=0.2")
    sources = [tmp_path / name for name in ("a/clip.mp4", "b/clip.mp4", "a/clip.mkv")]
    for path, content in zip(sources, [short_source, other, other], strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.read_bytes())
    folder = tmp_path / "encodes"
    rows = made(sources, CHEAP, folder, ffmpeg)
    assert len({row.source for row in rows}) == 3
    assert len({row.encode_path for row in rows}) == 3
    widths = {row.source_path: row.width_px for row in rows}
    assert widths == {str(sources[0]): 86, str(sources[1]): 72, str(sources[2]): 72}
    for order in (sources, sources[::-1], sources[1:]):
        plan = planned(order, CHEAP, folder)
        assert plan.jobs == ()
        assert [row.source_path for row in plan.done] == [str(path) for path in order]


def test_a_source_is_recognised_by_any_path_to_it(
    source_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "clip.mp4").symlink_to(source_video)
    ways = [source_video, Path("..") / "clip.mp4"]
    paths = {planned([way], CHEAP, tmp_path).jobs[0].row.source_path for way in ways}
    assert paths == {str(source_video.resolve())}


def test_a_link_in_a_circle_is_an_error_row(short_source: Path, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "circle.mp4").symlink_to("circle.mp4")
    (tmp_path / "films" / "good.mp4").symlink_to(short_source)
    folder = tmp_path / "encodes"
    plan = planned(find_sources([tmp_path / "films"], folder).videos, CHEAP, folder)
    assert [row.source for row in plan.failed] == ["circle"]
    assert [job.row.source for job in plan.jobs] == ["good"]


def test_two_sources_with_one_name_of_the_greatest_length_have_a_folder_each(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    sources = [tmp_path / f"{'x' * 251}.{suffix}" for suffix in ("mp4", "mkv")]
    for source in sources:
        source.write_bytes(short_source.read_bytes())
    rows = made(sources, CHEAP, tmp_path / "encodes", ffmpeg)
    assert [row.error for row in rows] == ["", ""]
    assert len({row.source for row in rows}) == 2


# ---- groups


def jobs_of(info: VideoInfo, name: str, rungs: list[Rung], folder: Path) -> list[EncodeJob]:
    """Jobs of a source called `name` with the facts of `info`; no such file is needed."""
    (like,) = planned([info.path], CHEAP, folder).jobs
    source = dataclasses.replace(like.source, name=name, info=info)
    return [dataclasses.replace(like, source=source, rung=rung) for rung in rungs]


def sized(info: VideoInfo, width: int, height: int) -> VideoInfo:
    return dataclasses.replace(info, width_px=width, height_px=height)


CRFS = [Rung(height_px=48, crf=crf) for crf in range(20, 40)]


@pytest.mark.parametrize(
    ("size", "most"),
    [
        ((192, 108), 8),
        ((1920, 1080), 8),
        ((2560, 1440), 4),  # 8 * 1080p / 1440p is 4.5
        ((3840, 2160), 2),
        ((7680, 4320), 1),
        ((15360, 8640), 1),  # never none
    ],
)
def test_the_size_of_a_source_limits_the_encodes_of_one_process(
    source_video: Path, tmp_path: Path, size: tuple[int, int], most: int
) -> None:
    assert max(map(len, partition_outputs(range(800), size, 99))) == most
    jobs = jobs_of(sized(probe(source_video), *size), "a", CRFS[:16], tmp_path)
    groups = group_jobs(jobs, num_processes=1)
    assert max(map(len, groups)) == most
    assert len(groups) == 16 // most


def test_few_encodes_of_one_source_use_all_processes(source_video: Path, tmp_path: Path) -> None:
    jobs = jobs_of(probe(source_video), "a", CRFS[:6], tmp_path)
    assert [len(group) for group in group_jobs(jobs, num_processes=1)] == [6]
    assert sorted(map(len, group_jobs(jobs, num_processes=2))) == [3, 3]
    assert sorted(map(len, group_jobs(jobs, num_processes=4))) == [2, 2, 2]
    assert group_jobs([], num_processes=4) == []


@pytest.mark.parametrize("at_once", [1, 2, 3, 8])
def test_each_encode_is_in_one_group_of_its_source(
    source_video: Path, tmp_path: Path, at_once: int
) -> None:
    info = probe(source_video)
    twice = [Rung(height_px=48, codec=c, bitrate_kbps=90, two_pass=True) for c in CODECS]
    jobs = [
        *jobs_of(info, "small", [*CRFS, *twice], tmp_path),
        *jobs_of(sized(info, 3840, 2160), "large", [*twice, *CRFS[:5]], tmp_path),
        *jobs_of(info, "last", CRFS[:3], tmp_path),
    ]
    groups = group_jobs(jobs, at_once)
    dealt = Counter((job.source.name, job.rung) for group in groups for job in group)
    assert dealt == Counter((job.source.name, job.rung) for job in jobs)
    for group in groups:
        assert len({job.source.name for job in group}) == 1
        assert len(partition_outputs(group, group[0].source.info.display_size, 99)) == 1
        # the first pass of several has several lengths
        assert len(group) == 1 or not any(job.rung.two_pass for job in group)


def test_large_encodes_are_distributed_over_the_groups(source_video: Path, tmp_path: Path) -> None:
    rungs = [Rung(height_px=height, crf=30) for height in (108, 108, 16, 16)]
    jobs = jobs_of(probe(source_video), "a", rungs, tmp_path)
    heights = [
        sorted(job.rung.height_px for job in group) for group in group_jobs(jobs, num_processes=2)
    ]
    assert heights == [[16, 108], [16, 108]]


def test_a_dry_run_refuses_an_impossible_encode(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    tags = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"
    args = ("-vf", tags, "-c:v", "libx264", "-pix_fmt", "yuv420p10le")
    hdr = make_video("hdr-short.mp4", "testsrc2=size=96x64:rate=25:duration=0.2", args)
    plan = planned([hdr], [Rung(height_px=48, crf=30, bit_depth=8)], tmp_path)
    with pytest.raises(LadderError, match="HDR"):
        list(shell_commands(plan, ffmpeg))
