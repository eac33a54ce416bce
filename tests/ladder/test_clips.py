from collections.abc import Callable
from pathlib import Path

import pytest

from ladder import Ffmpeg, probe
from ladder.clips import main, make_clips, read_cuts
from ladder.errors import TableError
from ladder.media.ffmpeg import run
from ladder.media.time_ranges import TimeRange

MakeOriginal = Callable[..., Path]


@pytest.fixture(name="make_original")
def make_original_fixture(tmp_path: Path, ffmpeg: Ffmpeg) -> MakeOriginal:
    def make(name: str, size: str = "192x108", seconds: float = 4, *options: str) -> Path:
        path = tmp_path / "originals" / name
        path.parent.mkdir(exist_ok=True)
        source = f"testsrc2=s={size}:r=25:d={seconds}"
        coding = options or ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "10")
        run(ffmpeg, ["-f", "lavfi", "-i", source, *coding, f"file:{path}"], timeout_s=60)
        return path

    return make


def test_a_clip_is_scaled_down_and_begins_after_the_first_part(
    make_original: MakeOriginal, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    wide, upright = make_original("wide.mp4"), make_original("upright.mkv", "108x192")
    made = dict(make_clips([wide, upright], tmp_path / "clean", 72, ffmpeg))
    assert made == dict.fromkeys([tmp_path / "clean" / f"{n}.mp4" for n in ("wide", "upright")])
    clips = [probe(path) for path in made]
    assert {clip.display_size for clip in clips} == {(128, 72), (72, 128)}
    assert {clip.frame_count for clip in clips} == {60}


def test_a_table_says_where_clips_are(
    make_original: MakeOriginal, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    table = tmp_path / "cuts.csv"
    text = "clip,origin,cut_start,cut_duration\nwide.mp4,me,1.2,0.8\nother.mp4,me,,\n"
    table.write_text(text, encoding="utf-8-sig")
    cuts = read_cuts(table)
    assert cuts == {"wide": TimeRange(1.2, 0.8), "other": TimeRange(0, 2.4)}
    [(path, error)] = make_clips(
        [make_original("wide.mp4")], tmp_path / "clean", 72, ffmpeg, cuts=cuts
    )
    assert error is None
    assert probe(path).frame_count == 20


def test_a_clip_of_a_transport_stream_begins_where_it_shall(
    make_original: MakeOriginal, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    options = ("-c:v", "libx264", "-crf", "10", "-g", "50")
    stream = make_original("camera.ts", "192x108", 8, *options)
    cuts = {"camera": TimeRange(1.2, 2.4)}
    [(path, error)] = make_clips([stream], tmp_path / "clean", 72, ffmpeg, cuts=cuts)
    assert error is None
    assert probe(path).frame_count == 60


def test_a_damaged_original_makes_no_shorter_clip(
    make_original: MakeOriginal, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    original = make_original("cut.mkv")
    content = original.read_bytes()
    original.write_bytes(content[: len(content) // 4])
    [(path, error)] = make_clips([original], tmp_path / "clean", 72, ffmpeg)
    assert error is not None
    assert not path.exists()


def test_sound_makes_no_picture_clean(
    make_original: MakeOriginal, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    coding = ("-c:v", "libx264", "-b:v", "20k", "-maxrate", "20k", "-bufsize", "10k")
    sound = ("-f", "lavfi", "-i", "sine=d=4", "-c:a", "pcm_s16le")
    loud = make_original("loud.mkv", "192x108", 4, *sound, *coding)
    [(_, error)] = make_clips([loud], tmp_path / "clean", 90, ffmpeg)
    assert "not for 90; choose a lower --height" in str(error)


def test_clips_below_the_originals_are_no_originals(
    make_original: MakeOriginal, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_original("wide.mp4").parent
    arguments = [str(folder), "-o", str(folder / "clean"), "--height", "72"]
    assert [main(arguments), main(arguments)] == [0, 0]
    assert "0 videos made, 0 failed" in capsys.readouterr().err


def test_a_folder_that_cannot_be_used_is_told(
    make_original: MakeOriginal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = make_original("wide.mp4")
    (tmp_path / "taken").write_bytes(b"")
    assert main([str(original), "-o", str(tmp_path / "taken"), "--height", "72"]) == 4
    assert "taken: " in capsys.readouterr().err


def test_sixty_frames_a_second_become_thirty(
    make_original: MakeOriginal, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    fast = make_original("fast.mp4", "192x108", 4, "-r", "60", "-crf", "10")
    [(path, _)] = make_clips([fast], tmp_path / "clean", 72, ffmpeg)
    assert probe(path).fps == 30


def test_what_would_not_be_clean_is_refused_with_the_height_that_is(
    make_original: MakeOriginal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_original("coarse.mp4", "192x108", 4, "-c:v", "libx264", "-b:v", "20k", "-maxrate", "20k",
                  "-bufsize", "10k")  # fmt: skip
    make_original("small.mp4", "128x72")
    make_original("short.mp4", "192x108", 1)
    make_original("fields.mkv", "192x108", 4, "-c:v", "libx264", "-crf", "5", "-flags",
                  "ildct+ilme", "-vf", "setfield=tff")  # fmt: skip
    make_original("bright.mp4", "192x108", 4, "-c:v", "libx265", "-crf", "5", "-pix_fmt",
                  "yuv420p10le", "-x265-params", "transfer=smpte2084:log-level=none")  # fmt: skip
    good = make_original("good.mp4")
    make_original("good.mkv")
    (good.parent / "broken.mp4").write_bytes(b"no video")
    table = tmp_path / "cuts.csv"
    table.write_text("clip,cut_start,cut_duration\nshort.mp4,0,2.4\n")
    out = tmp_path / "clean"
    code = main([str(good.parent), "-o", str(out), "--height", "90", "--cuts", str(table)])
    told = capsys.readouterr().err
    assert code == 4
    for name, reason in {
        "coarse": "not for 90; choose a lower --height",
        "small": "clean enough for 72 lines, not for 90",
        "short": "lasts 1.00 s, and the clip is 2.40 s from 0.00 s on",
        "fields": "is interlaced: deinterlace it before",
        "bright": "is HDR: convert it to SDR before",
        "good": "has the same name",
        "broken": "broken.mp4",
    }.items():
        assert any(f"{name}." in line and reason in line for line in told.splitlines()), name
    assert "1 videos made, 7 failed" in told
    assert [path.name for path in out.iterdir() if path.suffix == ".mp4"] == ["good.mp4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clip,cut_start\n", "no column cut_duration"),
        ("clip,cut_start,cut_duration\na,b,c\n", "line 2: could not convert"),
        ("clip,cut_start,cut_duration\n\xe9,1,2\n", "is no text in UTF-8"),
        ("clip,cut_start,cut_duration\na,-1,2\n", "line 2: a clip of 2.0 s from -1.0 s on"),
        ("clip,cut_start,cut_duration\na,1,0\n", "line 2: a clip of 0.0 s from 1.0 s on"),
        ("clip,cut_start,cut_duration\na,1,nan\n", "line 2: a clip of nan s from 1.0 s on"),
    ],
)
def test_a_table_that_is_none_of_cuts_is_refused(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "cuts.csv"
    table.write_bytes(text.encode("latin-1"))
    with pytest.raises(TableError, match=told):
        read_cuts(table)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "-o", str(tmp_path / "clean"), "--cuts", str(table)])
    assert told in capsys.readouterr().err


def test_a_folder_without_videos_and_an_odd_height_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, told in (([], "no video in"), (["--height", "71"], "give an even number"),
                          (["--jobs", "-1"], "give a number of at least 1")):  # fmt: skip
        with pytest.raises(SystemExit):
            main([str(tmp_path), "-o", str(tmp_path / "clean"), *options])
        assert told in capsys.readouterr().err
