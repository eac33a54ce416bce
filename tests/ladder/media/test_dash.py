"""Manifests of DASH: the best video is read as one file, or an error row says what is wrong."""

import shutil
from pathlib import Path

import pytest

from ladder.encode.rungs import Rung
from ladder.errors import VideoError
from ladder.media.dash import dash_files
from ladder.media.decode import frames_at
from ladder.media.discover import find_videos
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.lengths import frame_times
from ladder.media.playlists import parts, size_bytes
from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange, TrimSpec
from tests.conftest import MakeVideo
from tests.ladder.conftest import label, work_folder
from tests.ladder.works import made

SIZE, LENGTH_S, TICKS = (96, 64), 4.0, 12800
CODER = ("-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-sc_threshold", "0")
PIECES = "<S t='0' d='12800' r='3'/>"
MPD = """<?xml version="1.0"?><!-- made up -->
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT0H0M4.0S">
<Period>{period}<AdaptationSet contentType="audio"><Representation id="a" bandwidth="900000">
<BaseURL>no.mp4</BaseURL></Representation></AdaptationSet>
<AdaptationSet mimeType="video/mp4">{group}<Representation id="low" bandwidth="9"/>
<Representation id="v1" bandwidth="1000">{own}</Representation></AdaptationSet></Period></MPD>"""
TEMPLATE = "<SegmentTemplate timescale='12800' {}>{}</SegmentTemplate>"
LISTED = "".join(f"<SegmentURL media='v1/seg-{n:03}.m4s'/>" for n in range(1, 5))
LAYOUTS = {
    # as ffmpeg and Shaka Packager write them
    "number": {"own": TEMPLATE.format(
        "initialization='v1/init.mp4' media='v1/seg-$Number%03d$.m4s' duration='12800' "
        "startNumber='1'", "")},
    # as GPAC does: one template for all representations
    "inherited": {"group": TEMPLATE.format(
        "initialization='$RepresentationID$/init.mp4' duration='12800' "
        "media='$RepresentationID$/seg-$Number%03d$.m4s'", "")},
    "time": {"own": TEMPLATE.format(
        "initialization='init.mp4' media='t$Time$-$Bandwidth$.m4s'",
        f"<SegmentTimeline>{PIECES}</SegmentTimeline>"), "group": "<BaseURL>v1/</BaseURL>"},
    "open timeline": {"own": "<BaseURL>v1/</BaseURL>" + TEMPLATE.format(
        "initialization='init.mp4' media='t$Time$-$Bandwidth$.m4s'",
        "<SegmentTimeline><S t='0' d='12800' r='-1'/></SegmentTimeline>")},
    "list": {"own": "<SegmentList><Initialization sourceURL='v1/init.mp4'/>"
                    f"{LISTED}</SegmentList>"},
    "ranges": {"own": "<BaseURL>v1/whole.mp4</BaseURL><SegmentList><Initialization range='0-9'/>"
                      "<SegmentURL mediaRange='10-99'/></SegmentList>"},
    "file": {"own": "<BaseURL>v1/whole.mp4</BaseURL><SegmentBase indexRange='0-9'/>"},
}  # fmt: skip


@pytest.fixture
def clip(make_video: MakeVideo) -> Path:
    return make_video("to-dash.mp4", f"testsrc2=size=96x64:rate=25:duration={LENGTH_S}", CODER)


@pytest.fixture
def folder(clip: Path, tmp_path: Path, ffmpeg: Ffmpeg) -> Path:
    """`v1` with the segments of `clip` under the names that the layouts use."""
    segments = tmp_path / "dash" / "v1"
    segments.mkdir(parents=True)
    names = ("-init_seg_name", "init.mp4", "-media_seg_name", "seg-$Number%03d$.m4s")
    args = ("-c", "copy", "-seg_duration", "1", *names, "-f", "dash")
    run(ffmpeg, ["-i", str(clip), *args, str(segments / "x.mpd")])
    (segments / "x.mpd").unlink()
    for index in range(4):
        shutil.copy(segments / f"seg-{index + 1:03}.m4s", segments / f"t{index * TICKS}-1000.m4s")
    shutil.copy(clip, segments / "whole.mp4")
    return segments.parent


def manifest(folder: Path, **parts: str) -> Path:
    path = folder / "m.mpd"
    path.write_text(MPD.format(**({"period": "", "group": "", "own": ""} | parts)))
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_manifest_is_read_as_its_best_video(folder: Path, clip: Path, layout: str) -> None:
    path = manifest(folder, **LAYOUTS[layout])
    info, right = probe(path), probe(clip)
    assert info.duration_s == pytest.approx(LENGTH_S, abs=0.01)
    assert info.fps == 25
    times = frame_times(path, info.fps)
    assert times == pytest.approx(frame_times(clip, right.fps), abs=0.001)
    middles_s = [time + 0.02 for time in times[::9]]
    assert (frames_at(info, middles_s, SIZE) == frames_at(right, middles_s, SIZE)).all()
    assert size_bytes(path) == sum(file.stat().st_size for file in dash_files(path))
    found = find_videos([folder]).videos
    assert (path in found) == (layout != "file")  # a file that is all of it is a video by itself
    assert not set(found) & parts(path)


def test_segments_without_end_end(folder: Path) -> None:
    endless = TEMPLATE.format("media='v1/whole.mp4' duration='12800'", "")
    assert dash_files(manifest(folder, own=endless)) == [folder / "v1" / "whole.mp4"]
    entries = "<SegmentTimeline><S t='0' d='1' r='99999999999'/></SegmentTimeline>"
    with pytest.raises(VideoError, match="which is not here"):
        dash_files(manifest(folder, own=TEMPLATE.format("media='v1/$Time$'", entries)))
    assert parts(folder / "m.mpd") == set()


def test_ladder_and_label_read_manifests(
    folder: Path, clip: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    path = manifest(folder, **LAYOUTS["number"])
    whole, part = (
        made([path], [Rung(height_px=64, crf=30)], tmp_path / name, ffmpeg, trim)[0]
        for name, trim in (("whole", TrimSpec()), ("part", TrimSpec(TimeRange(2.0, 0.4))))
    )
    assert (whole.error, whole.frame_count, part.error, part.frame_count) == ("", 100, "", 10)
    encode = tmp_path / "whole" / whole.encode_path
    labels = [
        label(work_folder(tmp_path / name, source, {"one": encode}), ffmpeg)["one"]
        for name, source in (("dash", path), ("mp4", clip))
    ]
    assert [row.frames_compared for row in labels] == [100, 100]
    assert labels[0].vmaf == pytest.approx(labels[1].vmaf, abs=0.001)


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("init.mp4", r"names .*init\.mp4, which is not here"),
        ("seg-001.m4s", r"names .*seg-001\.m4s, which is not here"),
        ("seg-003.m4s", r"names .*seg-003\.m4s, which is not here"),
        ("seg-004.m4s", r"segments of 3\.00 s, and says that there are 4\.00 s"),
    ],
)
def test_a_segment_that_is_missing_is_named(folder: Path, gone: str, reason: str) -> None:
    (folder / "v1" / gone).unlink()
    with pytest.raises(VideoError, match=reason) as error:
        probe(manifest(folder, **LAYOUTS["number"]))
    assert error.value.code == "damaged"


def test_a_segment_at_the_end_of_a_timeline_is_missed(folder: Path) -> None:
    """Also where sound goes on: the presentation is as long as its longest track."""
    path = manifest(folder, **LAYOUTS["time"])
    path.write_text(path.read_text().replace("PT0H0M4.0S", "PT9S"))
    assert probe(path).duration_s == pytest.approx(LENGTH_S, abs=0.01)
    (folder / "v1" / f"t{3 * TICKS}-1000.m4s").unlink()
    with pytest.raises(VideoError, match=r"t38400-1000\.m4s, which is not here"):
        probe(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<MPD>", "is no manifest of DASH: no element found"),
        ("<html/>", "is no manifest of DASH"),
        ("<MPD/>", r"has 0 periods.*ffmpeg -i m\.mpd"),
        ("<MPD><Period/><Period/></MPD>", r"has 2 periods.*ffmpeg -i m\.mpd"),
        ("<MPD><Period/></MPD>", "names no video"),
        ("<!DOCTYPE MPD [<!ENTITY a 'b'>]><MPD>&a;</MPD>", "declares a document type"),
        (MPD.format(period="<BaseURL>http://127.0.0.1/</BaseURL>", group="", own=""),
         "'http://127.0.0.1/', which is no local file"),
        (MPD.format(period="", group="", own="<BaseURL>a%00b.mp4</BaseURL>"), "no local file"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_read_is_a_row_with_the_next_step(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "m.mpd"
    path.write_text(text)
    with pytest.raises(VideoError, match=reason) as error:
        probe(path)
    assert error.value.code == "not_video"
    assert str(path) in str(error.value)
