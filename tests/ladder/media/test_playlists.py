"""Playlists: their parts are passed over, and one without an end ends."""

import os
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from ladder.encode.rungs import Rung
from ladder.errors import VideoError
from ladder.media.container import Decoding
from ladder.media.decode import frames_at
from ladder.media.discover import find_videos
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.lengths import frame_times
from ladder.media.playlists import parts, size_bytes
from ladder.media.probe import probe
from tests.conftest import MakeVideo
from tests.ladder.works import made

CLIP = "testsrc2=size=96x64:rate=25:duration=4"
CODER = ("-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-sc_threshold", "0")
HLS = ("-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0")
WAYS = {
    "ts": ("p.m3u8", HLS),
    "m3u": ("p.m3u", HLS),
    "fmp4": ("p.m3u8", (*HLS, "-hls_segment_type", "fmp4")),
    "byte ranges": ("p.m3u8", (*HLS, "-hls_flags", "single_file")),
    "dash": ("p.mpd", ("-c", "copy", "-f", "dash", "-seg_duration", "1")),
}


@pytest.fixture
def clip(make_video: MakeVideo) -> Path:
    return make_video("segmented.mp4", CLIP, CODER)


@pytest.mark.parametrize("way", WAYS)
def test_the_parts_of_a_playlist_are_no_videos_of_their_own(
    clip: Path, tmp_path: Path, ffmpeg: Ffmpeg, way: str
) -> None:
    name, args = WAYS[way]
    run(ffmpeg, ["-i", str(clip), *args, str(tmp_path / name)])
    others = {path for path in tmp_path.iterdir() if path.name != name}
    assert others
    assert parts(tmp_path / name) == others
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    assert find_videos([tmp_path]).videos == (tmp_path / "other.mp4", tmp_path / name)
    assert size_bytes(tmp_path / name) == sum(path.stat().st_size for path in others)


def test_a_master_playlist_stands_for_its_variants(
    clip: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    for name in ("low", "high"):
        (tmp_path / name).mkdir()
        run(ffmpeg, ["-i", str(clip), *HLS, str(tmp_path / name / "p.m3u8")])
    lines = ["#EXTM3U"]
    for name in ("low", "high"):
        lines += ["#EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=96x64", f"{name}/p.m3u8"]
    master = tmp_path / "master.m3u8"
    master.write_text("\n".join(lines))
    assert find_videos([tmp_path]).videos == (master,)
    assert size_bytes(master) == size_bytes(tmp_path / "low" / "p.m3u8")


def test_a_playlist_without_an_end_is_read_from_its_first_segment_to_its_last(
    clip: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    playlist = tmp_path / "live.m3u8"
    run(ffmpeg, ["-i", str(clip), *HLS, str(playlist)])
    playlist.write_text(playlist.read_text().replace("#EXT-X-ENDLIST", ""))
    started = time.monotonic()
    info = probe(playlist)
    assert info.duration_s == pytest.approx(4, abs=0.05)
    assert len(frame_times(playlist, info.fps)) == 100
    assert info.is_bare
    shown = frames_at(info, [0.5, 3.5], (96, 64))
    assert np.abs(shown.astype(int) - frames_at(probe(clip), [0.5, 3.5], (96, 64))).max() == 0
    (row,) = made([playlist], [Rung(height_px=64, crf=30)], tmp_path / "work", ffmpeg)
    assert (row.error, row.frame_count) == ("", 100)
    assert time.monotonic() - started < 120  # and not until it ends


def test_a_playlist_of_a_player_hides_nothing(clip: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:60,A\na.mp4\n#EXTINF:60,B\nb.mp4\n")
    (tmp_path / "m.mpd").write_text(
        "<MPD><BaseURL>a.mp4</BaseURL><SegmentTemplate media='$RepresentationID$.mp4'/>"
        '<SegmentTemplate media="$Number$"/></MPD>'
    )
    assert find_videos([tmp_path]).videos == (tmp_path / "a.mp4", tmp_path / "b.mp4")


def test_names_in_a_manifest_are_those_of_xml(tmp_path: Path) -> None:
    manifest = tmp_path / "m.mpd"
    template = "initialization = 'a&amp;b.m4s' media='it&apos;s-$Number%05d$.m4s'"
    manifest.write_text(f"<MPD><SegmentTemplate {template}/></MPD>")
    named = {tmp_path / name for name in ("a&b.m4s", "it's-00001.m4s", "it's-00002.m4s")}
    for path in (*named, tmp_path / "other.m4s"):
        path.touch()
    assert parts(manifest) == named


def test_a_playlist_is_as_long_as_its_segments_say(
    make_video: MakeVideo, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    long = make_video("sixty.mp4", "testsrc2=size=32x32:rate=10:duration=60", CODER)
    for offset in ("0", "30"):
        playlist = tmp_path / f"{offset}.m3u8"
        run(ffmpeg, ["-i", str(long), *HLS, "-output_ts_offset", offset, str(playlist)])
        assert probe(playlist).duration_s == pytest.approx(60, abs=0.15)


def test_a_playlist_that_names_itself_has_a_size(clip: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "v.m3u8"
    frames = '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="v.m3u8"'
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n{frames}\n#EXTINF:4,\na.ts\n")
    (tmp_path / "a.ts").write_bytes(b"x" * 99)
    assert size_bytes(playlist) == 99


def test_a_playlist_that_leads_to_itself_is_an_error_and_not_read_forever(tmp_path: Path) -> None:
    variant = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
    for name, next_one in (("self", "self"), ("one", "two"), ("two", "three"), ("three", "two")):
        (tmp_path / f"{name}.m3u8").write_text(variant.format(f"{next_one}.m3u8"))
    for name in ("self", "one"):
        with pytest.raises(VideoError, match=rf"{name}\.m3u8 names itself: .*\.m3u8 > .*\.m3u8"):
            probe(tmp_path / f"{name}.m3u8")
    # a row each, but for those that others lead to
    assert [path.stem for path in find_videos([tmp_path]).videos] == ["one", "self"]
    (tmp_path / "one.m3u8").unlink()
    assert [path.stem for path in find_videos([tmp_path]).videos] == ["self", "three"]


def test_names_that_no_file_can_have_end_no_run(tmp_path: Path) -> None:
    variant = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
    media = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n"
    (tmp_path / "circle.m3u8").symlink_to("circle.m3u8")
    (tmp_path / "circled.m3u8").write_text(variant.format("circle.m3u8"))
    (tmp_path / "long.m3u8").write_text(media.format("x" * 300 + ".ts"))
    (tmp_path / "nul.m3u8").write_text(variant.format("a\0b.m3u8"))
    found = find_videos([tmp_path]).videos
    assert "long" in {path.stem for path in found}
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(VideoError, match=path.name):
            probe(path)


def test_a_segment_that_is_gone_is_named(clip: Path, tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    playlist = tmp_path / "p.m3u8"
    run(ffmpeg, ["-i", str(clip), *HLS, str(playlist)])
    with playlist.open("a") as file:
        file.write('#EXT-X-PRELOAD-HINT:TYPE=PART,URI="later.ts"\n')
    assert probe(playlist).duration_s == pytest.approx(4, abs=0.15)
    (tmp_path / "p2.ts").unlink()
    with pytest.raises(VideoError, match=r"p\.m3u8 names p2\.ts, which is not here"):
        probe(playlist)


def test_playlists_of_others_name_no_files_here(tmp_path: Path) -> None:
    playlist = tmp_path / "far.m3u8"
    names = ["http://127.0.0.1/a.ts", "../../etc/\0", "missing.ts", "/", "a.ts"]
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n" + "\n".join(names))
    (tmp_path / "a.ts").touch()
    assert parts(playlist) == {tmp_path / "a.ts"}
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\nfar.m3u8\n")  # itself
    assert parts(playlist) == set()


def test_a_pipe_that_is_named_like_a_playlist_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.m3u8"
    os.mkfifo(pipe)
    found: list[set[Path]] = []
    reader = Thread(target=lambda: found.append(parts(pipe)), daemon=True)
    reader.start()
    reader.join(60)
    assert found == [set()]


OPEN_GROUPS = {
    "libx264": ("-c:v", "libx264", "-bf", "3", "-x264-params", "open-gop=1"),
    "libx265": ("-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-x265-params",
                "open-gop=1:bframes=4:log-level=none"),
}  # fmt: skip


@pytest.mark.parametrize("coder", OPEN_GROUPS)
@pytest.mark.parametrize("frames", [80, 260])
def test_open_groups_in_segments_keep_the_times_of_their_frames(
    make_video: MakeVideo, tmp_path: Path, ffmpeg: Ffmpeg, coder: str, frames: int
) -> None:
    """FFmpeg's muxers give the first frame of a segment the time of one that leads it."""
    scene = f"testsrc2=size=96x64:rate=25,trim=end_frame={frames}"
    whole = probe(
        make_video(f"open-{coder}-{frames}.mp4", scene, (*OPEN_GROUPS[coder], "-g", "25"))
    )
    times = [n / 25 for n in range(frames)]
    middles = [time + 0.02 for time in times[22:78:3]]
    strict = Decoding(is_strict=True)
    right = frames_at(whole, middles, (96, 64), strict)
    for way in ("fmp4", "ts", "dash"):
        name, args = WAYS[way]
        folder = tmp_path / way
        folder.mkdir()
        run(ffmpeg, ["-i", str(whole.path), *args, str(folder / name)])
        info = probe(folder / name)
        assert not info.is_vfr, way
        assert info.duration_s == pytest.approx(frames / 25, abs=0.002), way
        assert frame_times(info.path, info.fps) == pytest.approx(times, abs=0.001), way
        assert (frames_at(info, middles, (96, 64), strict) == right).all(), way


def test_any_time_of_a_playlist_can_be_decoded_alone(
    clip: Path, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    """A second look for the key frame, further back, began before the playlist."""
    run(ffmpeg, ["-i", str(clip), *HLS, str(tmp_path / "p.m3u8")])
    info, whole = probe(tmp_path / "p.m3u8"), probe(clip)
    for time_s in [n / 25 for n in (47, 48, 49, 50, 73, 74)]:
        shown = frames_at(info, [time_s + 0.02], (96, 64))
        assert (shown == frames_at(whole, [time_s + 0.02], (96, 64))).all(), time_s
