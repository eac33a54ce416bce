"""Pitfalls of pairing frames: the VMAF one gets without care, how wrong it is, and ours.

Each wrong figure comes from a plain graph written by hand, the right one from a graph that names
the frames. Ours is the label's, with what it warns of.
"""

from pathlib import Path

import pytest

from ladder.label.run import LabelOptions
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from tests.conftest import EXACT, MakeVideo
from tests.ladder.conftest import BY_HAND, V0, X264, label, label_of, vmaf_by_hand, work_folder

PLAIN = f"[0:v][1:v]{BY_HAND}"
CLOCK = "settb=1/25,setpts=N"
BY_INDEX = f"[0:v]{CLOCK}[e];[1:v]{CLOCK}[s];[e][s]{BY_HAND}:shortest=1"
SYNCED = LabelOptions(models=(V0,), sync=True)
NTSC = "mandelbrot=size=192x108:rate=30000/1001:start_scale=0.6:end_pts=60"


def test_an_encode_that_lost_its_first_frame(
    late: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    graph = f"[1:v]trim=start_frame=1,{CLOCK}[s];[0:v]{CLOCK}[e];[e][s]{BY_HAND}"
    right = vmaf_by_hand(late, source_video, graph, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(late, source_video, BY_INDEX, ffmpeg, tmp_path)
    assert wrong < right - 15

    row = label_of(late, source_video, ffmpeg, tmp_path)
    assert (row.offset_frames, row.warnings, row.frames_compared) == (-1, "shifted:-1", 23)
    assert row.vmaf == pytest.approx(wrong, abs=1)  # told, and left as it is

    row = label_of(late, source_video, ffmpeg, tmp_path, SYNCED)
    assert (row.offset_frames, row.warnings, row.frames_compared) == (-1, "synced:-1", 23)
    assert row.pairing == "index"
    assert row.vmaf == pytest.approx(right, abs=0.01)


def test_an_encode_with_a_frame_too_many_in_front(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    # as many frames as the source: the count gives nothing away
    args = ("-vf", "loop=loop=1:size=1,trim=end_frame=24", "-crf", "26", *X264)
    led = make_video("led.mp4", source_video, args)
    graph = f"[0:v]trim=start_frame=1,{CLOCK}[e];[1:v]trim=end_frame=23,{CLOCK}[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(led, source_video, graph, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(led, source_video, PLAIN, ffmpeg, tmp_path)
    assert wrong < right - 15
    row = label_of(led, source_video, ffmpeg, tmp_path)
    assert (row.pairing, row.offset_frames, row.warnings) == ("index", 1, "shifted:+1")
    row = label_of(led, source_video, ffmpeg, tmp_path, SYNCED)
    assert (row.warnings, row.frames_compared) == ("synced:+1", 23)
    assert row.vmaf == pytest.approx(right, abs=0.01)


@pytest.fixture(scope="module")
def titled(make_video: MakeVideo, source_video: Path) -> Path:
    """A still title of a second, then `source_video`: 49 frames."""
    return make_video("titled.mp4", source_video, ("-vf", "tpad=start=25:start_mode=clone", *EXACT))


@pytest.mark.parametrize("lost", [1, 9])
def test_a_film_that_begins_with_a_title_and_lost_frames_of_it(
    make_video: MakeVideo, titled: Path, ffmpeg: Ffmpeg, tmp_path: Path, lost: int
) -> None:
    cut = f"trim=start_frame={lost}"
    args = ("-vf", f"{cut},setpts=PTS-STARTPTS", "-crf", "26", *X264)
    encode = make_video(f"titled-{lost}.mp4", titled, args)
    graph = f"[1:v]{cut},{CLOCK}[s];[0:v]{CLOCK}[e];[e][s]{BY_HAND}"
    right = vmaf_by_hand(encode, titled, graph, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(encode, titled, BY_INDEX, ffmpeg, tmp_path)
    assert wrong < right - 8  # half of it is the title
    row = label_of(encode, titled, ffmpeg, tmp_path)
    assert (row.offset_frames, row.warnings.split(";")[-1]) == (-lost, f"shifted:-{lost}")
    row = label_of(encode, titled, ffmpeg, tmp_path, SYNCED)
    assert (row.pairing, row.warnings.split(";")[-1]) == ("index", f"synced:-{lost}")
    assert row.vmaf == pytest.approx(right, abs=0.01)


def test_black_frames_in_front(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    args = ("-vf", "tpad=start=25:color=black", "-crf", "26", *X264)
    led = make_video("led-by-black.mp4", source_video, args)
    row = label_of(led, source_video, ffmpeg, tmp_path)
    assert row.warnings == "frame_count:+25;shifted:+25"
    graph = f"[0:v]trim=start_frame=25,{CLOCK}[e];[1:v]{CLOCK}[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(led, source_video, graph, ffmpeg, tmp_path)
    row = label_of(led, source_video, ffmpeg, tmp_path, SYNCED)
    assert (row.warnings, row.frames_compared) == ("frame_count:+25;synced:+25", 24)
    assert row.vmaf == pytest.approx(right, abs=0.01)


def test_encodes_of_one_source_of_which_one_is_shifted(
    late: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    folder = work_folder(tmp_path / "work", source_video, {"late": late, "poor": poor})
    rows = label(folder, ffmpeg, SYNCED)
    assert {name: row.warnings for name, row in rows.items()} == {"late": "synced:-1", "poor": ""}
    for name, encode in (("late", late), ("poor", poor)):
        alone = label_of(encode, source_video, ffmpeg, tmp_path, SYNCED)
        assert rows[name].vmaf == pytest.approx(alone.vmaf, abs=0.01)


def test_a_mirrored_encode_is_other_content(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    mirrored = make_video("mirrored.mp4", source_video, ("-vf", "hflip", "-crf", "26", *X264))
    row = label_of(mirrored, source_video, ffmpeg, tmp_path, SYNCED)
    assert row.warnings == "other_content"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_film_that_is_measured_in_ranges_is_searched_too(
    late: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, processes: int
) -> None:
    folder = work_folder(tmp_path / "work", source_video, {"late": late})
    row = label(folder, ffmpeg, SYNCED, processes, range_s=0.4)["late"]
    assert (row.warnings, row.frames_compared) == ("synced:-1", 23)


@pytest.mark.parametrize(
    ("rate", "how"),
    [("30", ("-vf", "fps=30")), ("30", ("-r", "30")), ("12.5", ("-r", "12.5"))],
)
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_rate_that_ffmpeg_has_converted(
    make_video: MakeVideo,
    source_video: Path,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    container: str,
    rate: str,
    how: tuple[str, str],
) -> None:
    name = f"{container}-{rate}{how[0]}"
    source = make_video(f"to-convert.{container}", source_video, ("-c", "copy"))
    right_frames = make_video(f"converted-{name}.mp4", source, (*how, *EXACT))
    encode = make_video(f"encode-{name}.mp4", source, (*how, "-crf", "26", *X264[:-2]))
    right = vmaf_by_hand(encode, right_frames, PLAIN, ffmpeg, tmp_path)
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert (row.pairing, row.warnings) == ("rate", f"fps:25>{rate}")
    # the last frame or two may be shown twice, or have no partner
    assert row.vmaf == pytest.approx(right, abs=0.7)


@pytest.mark.parametrize("rate", ["24", "30"])
def test_a_film_that_is_shown_faster_or_slower(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, rate: str
) -> None:
    """As where a film is brought to another broadcast rate: it has all frames, and no others."""
    film = make_video("four-times.mp4", source_video, ("-vf", "loop=loop=3:size=24", *EXACT))
    retimed = ("-vf", f"setpts=N/{rate}/TB", "-r", rate, "-crf", "26", *X264[:-2])
    encode = make_video(f"retimed-{rate}.mp4", film, retimed)
    right = vmaf_by_hand(encode, film, BY_INDEX, ffmpeg, tmp_path)
    row = label_of(encode, film, ffmpeg, tmp_path)
    assert (row.pairing, row.warnings) == ("rate", f"fps:25>{rate}")
    assert row.frames_compared == row.frames_encode
    assert row.vmaf == pytest.approx(right, abs=0.01)


def test_a_first_timestamp_that_is_not_zero(
    make_video: MakeVideo, short: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    moved = make_video("moved.mkv", short, ("-c", "copy", "-output_ts_offset", "0.3"))
    whole = f"[1:v]trim=end_frame=19,{CLOCK}[s];[0:v]{CLOCK}[e];[e][s]{BY_HAND}"
    right = vmaf_by_hand(short, source_video, whole, ffmpeg, tmp_path)
    read = ("-copyts",)
    wrong = vmaf_by_hand(moved, source_video, f"{PLAIN}:shortest=1", ffmpeg, tmp_path, read)
    assert wrong < right - 60
    row = label_of(moved, source_video, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.warnings, row.frames_compared) == ("frame_count:-5", 19)


def test_matroska_timestamps_at_29_97_fps(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = make_video("ntsc.mp4", NTSC, ("-frames:v", "30", *EXACT))
    args = ("-crf", "30", "-video_track_timescale", "30000", *X264)
    encode = make_video("ntsc-encode.mp4", source, args)
    remuxed = make_video("ntsc-encode.mkv", encode, ("-c", "copy"))
    right = vmaf_by_hand(encode, source, PLAIN, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(remuxed, source, PLAIN, ffmpeg, tmp_path)
    assert wrong < right - 5
    row = label_of(remuxed, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.pairing, row.warnings, row.frames_compared) == ("index", "", 30)
    # by time too, where a frame is missing at the end
    trim = make_video("ntsc-cut.mkv", source, ("-frames:v", "26", "-crf", "30", *X264))
    graph = f"[1:v]trim=end_frame=26,{CLOCK}[s];[0:v]{CLOCK}[e];[e][s]{BY_HAND}"
    right = vmaf_by_hand(trim, source, graph, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(trim, source, f"{PLAIN}:shortest=1", ffmpeg, tmp_path)
    assert wrong < right - 5
    row = label_of(trim, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.pairing, row.warnings, row.frames_compared) == ("time", "frame_count:-4", 26)


def test_an_encode_at_half_the_frame_rate(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    args = ("-vf", "select='not(mod(n,2))'", "-crf", "26", "-r", "25/2", *X264[:-2])
    half = make_video("half-rate.mp4", source_video, args)
    assert probe(half).fps == 12.5
    graph = f"[0:v]{CLOCK}[e];[1:v]select='not(mod(n,2))',{CLOCK}[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(half, source_video, graph, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(half, source_video, BY_INDEX, ffmpeg, tmp_path)
    assert wrong < right - 40
    for options in (None, SYNCED):  # and no shift is seen in frames that are no pairs
        row = label_of(half, source_video, ffmpeg, tmp_path, options)
        assert row.vmaf == pytest.approx(right, abs=0.01)
        assert (row.pairing, row.offset_frames, row.frames_compared) == ("rate", 0, 12)
        assert row.warnings == "fps:25>12.5"


def test_a_source_at_half_the_frame_rate(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    args = ("-vf", "select='not(mod(n,2))'", "-r", "25/2", *EXACT)
    source = make_video("half-rate-source.mp4", source_video, args)
    doubled = make_video("doubled.mp4", source, ("-crf", "26", "-r", "25", *X264[:-2]))
    graph = f"[0:v]{CLOCK}[e];[1:v]fps=25,{CLOCK}[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(doubled, source, graph, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(doubled, source, BY_INDEX, ffmpeg, tmp_path)
    assert wrong < right - 40
    row = label_of(doubled, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert row.warnings == "fps:12.5>25"


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_source_that_goes_on_after_the_encode(
    make_video: MakeVideo,
    short: Path,
    source_video: Path,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    container: str,
) -> None:
    encode = make_video(f"goes-on.{container}", short, ("-c", "copy"))
    graph = f"[1:v]trim=end_frame=19,{CLOCK}[s];[0:v]{CLOCK}[e];[e][s]{BY_HAND}"
    right = vmaf_by_hand(encode, source_video, graph, ffmpeg, tmp_path)
    repeated = vmaf_by_hand(encode, source_video, PLAIN, ffmpeg, tmp_path)  # the last frame
    assert repeated < right - 8
    row = label_of(encode, source_video, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.frames_source, row.frames_encode, row.frames_compared) == (24, 19, 19)
    assert (row.pairing, row.warnings) == ("time", "frame_count:-5")


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_an_encode_that_goes_on_after_its_source(
    make_video: MakeVideo,
    source_video: Path,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    container: str,
) -> None:
    encode = make_video("whole.mp4", source_video, ("-crf", "26", *X264))
    source = make_video(f"first-19.{container}", source_video, ("-frames:v", "19", *EXACT))
    graph = f"[0:v]trim=end_frame=19,{CLOCK}[e];[1:v]{CLOCK}[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(encode, source, graph, ffmpeg, tmp_path)
    repeated = vmaf_by_hand(encode, source, PLAIN, ffmpeg, tmp_path)
    assert repeated < right - 8
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.frames_source, row.frames_encode, row.frames_compared) == (19, 24, 19)
    assert (row.pairing, row.warnings) == ("time", "frame_count:+5")


def test_a_frame_dropped_in_the_middle(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    args = ("-vf", "select='not(eq(n,12))'", "-crf", "30", *X264)
    gap = make_video("gap.mp4", source_video, args)
    graph = f"[1:v]select='not(eq(n,12))',{CLOCK}[s];[0:v]{CLOCK}[e];[e][s]{BY_HAND}"
    right = vmaf_by_hand(gap, source_video, graph, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(gap, source_video, BY_INDEX, ffmpeg, tmp_path)
    assert wrong < right - 5
    row = label_of(gap, source_video, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.pairing, row.frames_compared, row.offset_frames) == ("time", 23, 0)


def test_an_encode_with_a_constant_rate_of_a_vfr_source(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    uneven = "setpts='(N+3*gt(N,5)+4*gt(N,11))/25/TB'"
    source = make_video("vfr.mp4", source_video, ("-vf", uneven, "-fps_mode", "vfr", *EXACT))
    args = ("-vf", "setpts=N/25/TB", "-crf", "28", *X264)
    encode = make_video("vfr-encode.mp4", source, args)
    assert probe(source).is_vfr
    assert not probe(encode).is_vfr
    right = vmaf_by_hand(encode, source, BY_INDEX, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(encode, source, f"{PLAIN}:shortest=1", ffmpeg, tmp_path)
    assert wrong < right - 20
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.pairing, row.frames_compared) == ("index", 24)
    assert "vfr" in row.warnings.split(";")


def test_two_variable_rates_with_the_same_frames_are_one_rate(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """Containers give other averages of them, by how long the last frame stays."""
    slow = ("-vf", "setpts='(N+30*gt(N,3)+60*gt(N,20))/25/TB'", "-fps_mode", "vfr")
    source = make_video("slow-vfr.mkv", source_video, (*slow, *EXACT, "-bf", "0"))
    encode = make_video("slow-vfr.mp4", source, ("-crf", "28", *X264))
    assert probe(source).fps != probe(encode).fps
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert (row.pairing, row.frames_compared) == ("index", 24)
    assert row.warnings == "vfr"


KEEPS_TIMES = ("-fps_mode", "vfr", "-enc_time_base", "1:90000")


def uneven_rate(make_video: MakeVideo, video: Path, container: str = "mp4") -> Path:
    """The video with two gaps, and with frames that are not evenly apart anywhere."""
    times = "setpts='(N+3*gt(N,5)+4*gt(N,11)+0.4*mod(N,2))/25/TB'"
    return make_video(f"uneven-rate.{container}", video, ("-vf", times, *KEEPS_TIMES, *EXACT))


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize(("how", "rate"), [("-r", "25"), ("-r", "12"), ("-vf", "25")])
def test_a_variable_frame_rate_that_was_made_constant(
    make_video: MakeVideo,
    source_video: Path,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    how: str,
    rate: str,
    container: str,
) -> None:
    source = uneven_rate(make_video, source_video, container)
    args = (how, rate if how == "-r" else f"fps={rate}")
    name = f"constant{how}-{rate}-{container}"
    encode = make_video(f"{name}.mp4", source, (*args, "-crf", "28", *X264[:-2]))
    converted = make_video(f"{name}-exact.mp4", source, (*args, *EXACT))
    right = vmaf_by_hand(encode, converted, BY_INDEX, ffmpeg, tmp_path)
    nearest = f"{PLAIN}:shortest=1:ts_sync_mode=nearest"
    wrong = vmaf_by_hand(encode, source, nearest, ffmpeg, tmp_path)
    assert wrong < right - 0.5
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.pairing, row.offset_frames, row.frames_compared) == ("rate", 0, row.frames_encode)
    assert {code.partition(":")[0] for code in row.warnings.split(";")} <= {"vfr", "fps"}


def test_a_variable_frame_rate_that_was_made_constant_from_later_on(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = uneven_rate(make_video, source_video)
    later = ("-ss", "0.17")
    encode = make_video("later.mp4", source, ("-r", "25", "-crf", "28", *X264[:-2]), later)
    converted = make_video("later-exact.mp4", source, ("-r", "25", *EXACT), later)
    right = vmaf_by_hand(encode, converted, BY_INDEX, ffmpeg, tmp_path)
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert (row.offset_frames, row.warnings.split(";")[1]) == (-5, "shifted:-5")
    row = label_of(encode, source, ffmpeg, tmp_path, SYNCED)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.warnings.split(";")[0], row.warnings.split(";")[-1]) == ("synced:-5", "vfr")


def test_a_variable_frame_rate_that_another_program_made_constant(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = uneven_rate(make_video, source_video)
    up = ("-vf", "fps=20:round=up")
    encode = make_video("rounded-up.mp4", source, (*up, "-crf", "28", *X264))
    converted = make_video("rounded-up-exact.mp4", source, (*up, *EXACT))
    right = vmaf_by_hand(encode, converted, BY_INDEX, ffmpeg, tmp_path)
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    # frames that no conversion gives
    odd = ("-vf", "fps=20,shuffleframes=1 0 3 2", "-crf", "28", *X264)
    row = label_of(make_video("shuffled.mp4", source, odd), source, ffmpeg, tmp_path)
    assert "unaligned" in row.warnings.split(";")


def test_frames_in_front_of_a_variable_frame_rate_are_not_aligned(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = uneven_rate(make_video, source_video)
    led = ("-vf", "fps=25,tpad=start=10:color=black", "-crf", "28", *X264)
    encode = make_video("uneven-led.mp4", source, led)
    for options in (None, SYNCED):
        row = label_of(encode, source, ffmpeg, tmp_path, options)
        assert "unaligned" in row.warnings.split(";")


def test_an_encode_that_keeps_a_variable_frame_rate(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = uneven_rate(make_video, source_video)
    encode = make_video("kept.mp4", source, ("-crf", "28", *KEEPS_TIMES, *X264[:-2]))
    right = vmaf_by_hand(encode, source, BY_INDEX, ffmpeg, tmp_path)
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.pairing, row.warnings, row.frames_compared) == ("index", "vfr", 24)
