"""Sixty unusual or broken files: each becomes a labelled row or an error row with the reason."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ladder import (
    Ffmpeg,
    LabelOptions,
    Ladder,
    Rung,
    encodes_table,
    labels_table,
    make_encodes,
    make_labels,
    plan_labels,
    plan_ladder,
)
from ladder.media.ffmpeg import file_url, run
from tests.ladder.conftest import V0

SCENE = "testsrc2=size=96x64:rate=25:duration=0.48"
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
TONE = ("-f", "lavfi", "-i", "sine=duration=0.5")
RUNGS = Ladder((Rung(height_px=48, crf=40),))

ODD_NAMES = [
    "two words", "quote's", 'double "quote"', "comma, semi;colon", "co:lon", "two\nlines",
    "\U0001f3ac", "-dash", "100%d", "[0:v]", "back\\slash", "$HOME", ".hidden", "no-utf8-\udcff",
    "=1+1",
]  # fmt: skip

GOOD: dict[str, Sequence[str]] = {
    "one-frame.mp4": ("-frames:v", "1", *X264),
    "two-frames.mp4": ("-frames:v", "2", *X264),
    "odd-size.mkv": ("-vf", "scale=853:479", "-c:v", "ffv1", "-frames:v", "3"),
    "ten-bit.mp4": ("-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt",
                    "yuv420p10le"),
    "444.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv444p"),
    "422.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv422p"),
    "gray.mkv": ("-c:v", "ffv1", "-pix_fmt", "gray"),
    "rgb.mkv": ("-c:v", "ffv1", "-pix_fmt", "bgr0"),
    "anamorphic.mp4": ("-vf", "setsar=4/3", *X264),
    "vfr.mp4": ("-vf", "select='not(eq(mod(n,5),2))'", "-fps_mode", "vfr", *X264),
    "ntsc.mkv": ("-r", "30000/1001", *X264),
    "interlaced.mp4": ("-vf", "setfield=tff", "-flags", "+ilme+ildct", *X264),
    "full-range.mp4": ("-vf", "scale=out_range=pc", "-color_range", "pc", *X264),
    "hdr10.mp4": ("-vf", "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc",
                  "-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "late-start.ts": ("-output_ts_offset", "5", *X264),
    "late-start.mkv": ("-output_ts_offset", "5", *X264),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime"),
    "mpeg4.avi": ("-c:v", "mpeg4"),
    "mjpeg.mov": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "mpeg2.ts": ("-c:v", "mpeg2video"),
    "flash.flv": ("-c:v", "flv1"),
    "bare.264": X264,
    "raw.y4m": ("-pix_fmt", "yuv420p"),
    "moving.gif": ("-r", "25"),
    "no-suffix": (*X264, "-f", "matroska"),
    "matroska-named.mp4": (*X264, "-f", "matroska"),
    "two-videos.mkv": ("-map", "0", "-map", "0", *X264),
}  # fmt: skip


@dataclass(frozen=True)
class Maker:
    """Makes files in one folder."""

    folder: Path
    ffmpeg: Ffmpeg

    def video(self, name: str, args: Sequence[str], inputs: Sequence[str] = ()) -> Path:
        path = self.folder / name
        given = [*inputs, "-f", "lavfi", "-i", SCENE] if not inputs else list(inputs)
        run(self.ffmpeg, [*given, *args, "-y", file_url(path)], timeout_s=60)
        return path

    def file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


def good_files(make: Maker, plain: Path) -> Iterator[Path]:
    """Files that can be encoded and labelled."""
    for name in ODD_NAMES:
        yield make.file(f"{name}.mp4", plain.read_bytes())
    for name, args in GOOD.items():
        yield make.video(name, args)
    turned = ["-display_rotation", "90", "-i", file_url(plain)]
    yield make.video("turned.mp4", ("-c", "copy"), turned)
    scene = ("-f", "lavfi", "-i", SCENE)
    yield make.video("sound.mp4", X264, [*TONE, *scene])
    cover = [*scene, *scene, "-map", "0", "-map", "1", "-c:v:0", "mjpeg", "-frames:v:0", "1"]
    yield make.video("cover-first.mp4", ("-disposition:v:0", "attached_pic", "-c:v:1", "libx264"),
                     cover)  # fmt: skip


def bad_files(make: Maker, plain: Path) -> Iterator[tuple[Path, str]]:
    """Files that cannot be encoded, and a word of the reason that must be given."""
    content = plain.read_bytes()
    noise = np.random.default_rng(1).bytes(4000)
    yield make.file("cut.mp4", content[: len(content) // 2]), "its header states"
    front = make.video("front.mp4", (*X264, "-movflags", "+faststart", "-crf", "4")).read_bytes()
    yield make.file("cut-late.mp4", front[: len(front) * 2 // 3]), ""
    yield make.file("head.mp4", content[:200]), "its header states"
    yield make.file("empty.mp4", b""), "no bytes"
    yield make.file("zeros.mp4", bytes(4000)), "cannot be opened"
    yield make.file("noise.mkv", noise), "cannot be opened"
    yield make.file("text.mp4", b"I am no video.\n" * 99), ""
    yield make.file("list.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.ts\n"), ""
    yield make.video("audio.m4a", ("-c:a", "aac"), TONE), "no video stream"
    video_input = ["-f", "lavfi", "-i", SCENE, "-map", "0", "-map", "1", "-c:v", "mjpeg"]
    cover = (*video_input, "-frames:v", "1", "-disposition:v", "attached_pic", "-c:a", "aac")
    yield make.video("song.m4a", cover, TONE), "no video stream"
    tiny = (*X264, "-vf", "scale=8:8")
    yield make.video("tiny.mp4", tiny), "smaller than every rung"
    yield make.folder / "gone.mp4", "not a file"
    link = make.folder / "link.mp4"
    link.symlink_to("nowhere.mp4")
    yield link, "which leads to no file"


def fuzzed_files(make: Maker) -> Iterator[Path]:
    """Real files with bytes changed somewhere: they may be readable or not."""
    for suffix in ("mp4", "mkv", "ts", "avi"):
        whole = make.video(f"whole.{suffix}", ("-c:v", "mpeg4", "-q:v", "2")).read_bytes()
        for number, share in enumerate((0.02, 0.3, 0.6, 0.95)):
            harmed = bytearray(whole)
            start = int(len(whole) * share)
            noise = np.random.default_rng(number).bytes(60)
            harmed[start : start + len(noise)] = noise
            yield make.file(f"fuzz{number}.{suffix}", bytes(harmed))


def every_file_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def make(ffmpeg: Ffmpeg, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("hostile"), ffmpeg)


@pytest.mark.slow
def test_sixty_hostile_files_each_give_a_label_or_a_reason(
    make: Maker, ffmpeg: Ffmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    folder = tmp_path / "encodes"
    plain = make.video("plain.mp4", X264)
    good = list(good_files(make, plain))
    bad = dict(bad_files(make, plain))
    fuzzed = list(fuzzed_files(make))
    sources = [*good, *bad, *fuzzed]
    assert len(sources) >= 60

    rows = list(make_encodes(plan_ladder(sources, RUNGS, folder), folder, ffmpeg))
    by_source = {row.source_path: row for row in rows}
    assert len(by_source) == len(rows) == len(sources)
    labels = list(make_labels(plan_labels(folder, LabelOptions(models=(V0,))), folder, ffmpeg))
    label_of = {label.encode_path: label for label in labels}

    def outcome(source: Path) -> tuple[str, str]:
        row = by_source[str(source.resolve())]
        return row.error, label_of[row.encode_path].error if row.status == "ok" else "no label"

    assert {path.name: outcome(path) for path in good} == {p.name: ("", "") for p in good}
    for path, word in bad.items():
        error, _ = outcome(path)
        assert error, f"{path.name} was encoded"
        assert word in error
    for path in fuzzed:
        error, label_error = outcome(path)
        assert error or not label_error  # a source that can be encoded can be labelled

    encoded = {row.encode_path for row in rows if row.status == "ok"}
    assert set(label_of) == encoded
    logs = {f"vmaf/{path}.json.gz" for path in encoded}
    assert every_file_in(folder) == {"encodes.csv", "labels.csv", *encoded, *logs}
    assert every_file_in(here) == set()
    for row in rows:
        figures = (row.bitrate_kbps, row.frame_count, row.size_bytes)
        assert all(figures) if row.status == "ok" else not any(figures)
    assert sorted(encodes_table(folder).rows(), key=lambda r: r.key) == sorted(
        (dataclasses.replace(row) for row in rows), key=lambda r: r.key
    )
    assert len(labels_table(folder).rows()) == len(encoded)
