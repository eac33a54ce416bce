"""A stream is the same in every container: its facts, frames, times, labels and scores.

Hypothesis chooses codecs, frame rates, starts and sound; each example is copied into every
container that takes the stream, and read by plain ffmpeg as well. `VQATOOL_EXAMPLES=500 pytest
tests/test_any_container.py` searches for longer, each time elsewhere.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ladder import Ffmpeg, VideoInfo, probe
from ladder.label.rows import LabelRow
from ladder.media.container import open_video
from ladder.media.decode import frames_at
from ladder.media.ffmpeg import file_url
from ladder.media.headers import CodedPicture, coded_pictures
from ladder.media.lengths import frame_times
from tests.ladder.conftest import label, work_folder
from tests.wrapping import CODERS, SILENT, Coder, Sound, encode, wrap, wrappings
from vqatool.inference.loading import load_predictor
from vqatool.inference.predictor import Predictor, to_label_scale

EXAMPLES = int(os.environ.get("VQATOOL_EXAMPLES", "0"))
RATES = ("24000/1001", "25", "60000/1001", "30", "variable")
FRAMES = 24
SIZE = (128, 72)
CLOCK_S = 0.0011  # containers that count milliseconds round by half of one, ours by the other
SAME_SCORE = 0.5  # an access unit delimiter is some bytes more for the bitstream features


FACTS = (
    "width_px", "height_px", "codec", "pix_fmt", "bit_depth", "is_full_range", "hdr", "rotation",
    "sar", "is_vfr", "is_interlaced", "num_videos", "has_false_keys",
)  # fmt: skip


def searched(examples: int) -> settings:
    """A few fixed examples; many new ones where a long search is asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # an example names its container itself, and a simpler one takes long to find
        phases=(Phase.explicit, Phase.generate),
    )


class Case(NamedTuple):
    """A stream, and how it is wrapped; `rate` is None where it varies."""

    coder: Coder
    rate: str
    start_s: float
    sound: Sound

    @property
    def fps(self) -> Fraction | None:
        return None if self.rate == "variable" else Fraction(self.rate)

    @property
    def containers(self) -> list[str]:
        return wrappings(self.coder, self.fps, self.start_s)


def scene(rate: str) -> str:
    """Moving detail and noise, so that all frames differ and have some bytes."""
    size = "{}x{}".format(*SIZE)
    fixed = "25" if rate == "variable" else rate
    # a hole of three frames, as a paused recording has
    gap = "setpts='if(gt(N,15),N+3,N)'," if rate == "variable" else ""
    return (
        f"testsrc2=size={size}:rate={fixed},noise=alls=12:all_seed=1,{gap}"
        f"format=yuv420p,trim=end_frame={FRAMES}"
    )


cases = st.builds(
    Case,
    coder=st.sampled_from(CODERS),
    rate=st.sampled_from(RATES),
    start_s=st.sampled_from((0.0, 0.04, 1.4, 3600.0)),
    sound=st.builds(Sound, st.sampled_from((0.0, 0.5, 1.0, 2.5)), st.booleans()),
)


class Shelf:
    """Streams that are coded once, and places for their copies."""

    def __init__(self, folder: Path, ffmpeg: Ffmpeg) -> None:
        self.folder, self.ffmpeg, self._count = folder, ffmpeg, 0

    def stream(self, case: Case) -> Path:
        name = f"{case.rate.replace('/', '-')}-{case.coder.name}"
        source = ["-f", "lavfi", "-i", scene(case.rate)]
        return encode(case.coder, source, self.folder / name, self.ffmpeg)

    def copies(self, case: Case, containers: Sequence[str] | None = None) -> dict[str, Path]:
        return wrap(
            self.stream(case),
            case.coder,
            case.containers if containers is None else containers,
            self.place(),
            self.ffmpeg,
            start_s=case.start_s,
            sound=case.sound,
            length_s=FRAMES / float(case.fps or 25),
        )

    def place(self) -> Path:
        """A new folder."""
        self._count += 1
        folder = self.folder / f"copies-{self._count}"
        folder.mkdir()
        return folder


@pytest.fixture(scope="session")
def shelf(ffmpeg: Ffmpeg, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("wrapped"), ffmpeg)


class Frames(NamedTuple):
    """The digest of each frame's pixels, and its time in seconds from the first one."""

    digests: list[str]
    times_s: list[float]


def frames_of_plain_ffmpeg(ffmpeg: Ffmpeg, paths: Sequence[Path], folder: Path) -> list[Frames]:
    """What ffmpeg decodes of each file, with nothing but its defaults."""
    command = [ffmpeg.path, "-v", "error", "-nostdin", "-y", "-copyts"]
    for path in paths:
        command += ["-i", file_url(path)]
    for number in range(len(paths)):
        out = ["-map", f"{number}:v:0", "-fps_mode", "passthrough", "-enc_time_base", "1:90000"]
        out += ["-f", "framemd5"]
        command += [*out, str(folder / f"{number}.md5")]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return [_parsed((folder / f"{n}.md5").read_text()) for n in range(len(paths))]


def _parsed(text: str) -> Frames:
    tick = next(Fraction(line.split()[2]) for line in text.splitlines() if line.startswith("#tb"))
    cells = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    pts = [int(cell[2]) for cell in cells]
    return Frames([cell[5].strip() for cell in cells], [float((p - pts[0]) * tick) for p in pts])


def our_frames(info: VideoInfo) -> Frames:
    with open_video(info.path) as (container, stream):
        digests = [
            hashlib.md5(b"".join(_planes(frame))).hexdigest() for frame in container.decode(stream)
        ]
    return Frames(digests, frame_times(info.path, info.fps))


def _planes(frame: VideoFrame) -> Iterator[bytes]:
    for plane, component in zip(frame.planes, frame.format.components, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        yield rows[:, : plane.width * -(-component.bits // 8)].tobytes()


def facts(info: VideoInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in FACTS}


def frames_on_screen(info: VideoInfo, times_s: Sequence[float]) -> list[int]:
    """Which of the decoded frames `frames_at` shows in the middle of each frame's time."""
    with open_video(info.path) as (container, stream):
        decoded = np.stack(
            [frame.to_ndarray(format="rgb24")[::4, ::4] for frame in container.decode(stream)]
        ).astype(np.int16)
    ends_s = [*times_s[1:], times_s[-1] + float(1 / info.fps)]
    middles_s = [(start + end) / 2 for start, end in zip(times_s, ends_s, strict=True)]
    shown = frames_at(info, middles_s, SIZE)[:, ::4, ::4]
    return [int(np.abs(decoded - picture).mean((1, 2, 3)).argmin()) for picture in shown]


@pytest.mark.slow
@searched(8)
@given(case=cases)
def test_facts_frames_and_times_are_those_of_plain_ffmpeg_in_every_container(
    shelf: Shelf, case: Case
) -> None:
    copies = shelf.copies(case)
    plain = frames_of_plain_ffmpeg(
        shelf.ffmpeg, [shelf.stream(case), *copies.values()], shelf.place()
    )
    truth, expected = probe(shelf.stream(case)), plain[0]
    assert len(expected.digests) == FRAMES
    duration_s = expected.times_s[-1] + float(1 / (case.fps or 25))
    pictures = coded_pictures(truth)
    for (name, path), found in zip(copies.items(), plain[1:], strict=True):
        info = probe(path)
        assert facts(info) == facts(truth), name
        ours = our_frames(info)
        assert ours.digests == found.digests == expected.digests, name
        assert ours.times_s == pytest.approx(found.times_s, abs=CLOCK_S), name
        assert ours.times_s == pytest.approx(expected.times_s, abs=2 * CLOCK_S), name
        if case.fps:
            assert float(info.fps) == pytest.approx(float(case.fps), rel=0.002), name
        assert info.duration_s == pytest.approx(duration_s, abs=2 * CLOCK_S), name
        assert frames_on_screen(info, ours.times_s) == list(range(FRAMES)), name
        assert_same_pictures(coded_pictures(info), pictures, name)


def assert_same_pictures(
    found: Sequence[CodedPicture], expected: Sequence[CodedPicture], name: str
) -> None:
    """Some containers begin each picture with a delimiter, and key frames with the headers."""
    assert [(p.is_key, p.log2_step) for p in found] == [
        (p.is_key, p.log2_step) for p in expected
    ], name
    for ours, other in zip(found, expected, strict=True):
        extra = 200 if other.is_key else 12
        assert abs(ours.size_bytes - other.size_bytes) <= extra, name


@pytest.mark.slow
@searched(3)
@given(case=cases, source=cases, data=st.data())
def test_a_label_depends_neither_on_the_container_of_the_encode_nor_of_the_source(
    shelf: Shelf, case: Case, source: Case, data: st.DataObject
) -> None:
    # of one scene, so with one rate
    source = source._replace(rate=case.rate)
    wrapped = data.draw(st.sampled_from(source.containers))
    (path,) = shelf.copies(source, [wrapped]).values()
    plain = label_all(shelf, {"stream": shelf.stream(case)}, shelf.stream(source))["stream"]
    copies = shelf.copies(case)
    labels = label_all(shelf, copies, path)
    assert plain.frames_compared == FRAMES
    for name in copies:
        row = labels[name]
        assert row.vmaf == pytest.approx(plain.vmaf, abs=0.001), name
        assert (row.frames_compared, row.warnings) == (FRAMES, plain.warnings), name


def label_all(shelf: Shelf, encodes: dict[str, Path], source: Path) -> dict[str, LabelRow]:
    return label(work_folder(shelf.place() / "work", source, encodes), shelf.ffmpeg)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load_predictor(device="cpu")


@pytest.mark.slow
@searched(3)
@given(case=cases, data=st.data())
def test_a_score_does_not_depend_on_the_container(
    shelf: Shelf, predictor: Predictor, case: Case, data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from(case.containers), min_size=2, max_size=2))
    copies = shelf.copies(case, list(dict.fromkeys(names)))
    views = [
        predictor.preprocessor.load_views(probe(path), SIZE, is_strict=True)
        for path in (shelf.stream(case), *copies.values())
    ]
    expected, *scores = to_label_scale(predictor.predict(views).score_B)
    assert dict(zip(copies, scores, strict=True)) == pytest.approx(
        dict.fromkeys(copies, expected), abs=SAME_SCORE
    )


def test_every_container_is_covered() -> None:
    names = {name for coder in CODERS for name in wrappings(coder, Fraction(25))}
    assert SILENT.length == 0
    assert names >= {"mp4", "mov", "mkv", "webm", "ts", "m2ts", "flv", "avi", "fragmented", "live",
                     "mxf", "raw"}  # fmt: skip
