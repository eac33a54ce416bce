"""Which segments have the pixels of others, and what they keep of their own."""

from collections.abc import Sequence

import numpy as np
import pytest

from ladder.media.headers import CodedPicture
from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange
from tests.conftest import MakeVideo
from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM, BitstreamFeatures
from vqatool.inputs.clip import FrameGroup, GroupedView
from vqatool.inputs.preprocessor import ClipPreprocessor, LoadedPart
from vqatool.inputs.skim import Look, looks
from vqatool.methods import Method, recipe_for

ALIKE = UNKNOWN_BITSTREAM._replace(is_known=1.0, has_step=1.0)
PARTS = [TimeRange(2.5 * index, 2.5) for index in range(8)]


def sources(
    keys_s: Sequence[float],
    features: Sequence[BitstreamFeatures] = (ALIKE,) * 8,
    parts: Sequence[TimeRange] = PARTS,
) -> list[int]:
    return [look.source for look in chosen(keys_s, features, parts)]


def chosen(
    keys_s: Sequence[float],
    features: Sequence[BitstreamFeatures] = (ALIKE,) * 8,
    parts: Sequence[TimeRange] = PARTS,
) -> list[Look]:
    keys = [CodedPicture(size_bytes=9, is_key=True, log2_step=3, shown_s=s) for s in keys_s]
    return looks(parts, [keys, *[[]] * (len(parts) - 1)], features)


def test_pixels_stand_for_ten_seconds_of_a_shot() -> None:
    assert sources([0]) == [0, 0, 0, 0, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("key_s", "first", "start_s"), [(5, 2, 5), (6, 2, 6), (6.3, 3, 7.5), (4.9, 2, 5)]
)
def test_a_key_frame_begins_a_shot(key_s: float, first: int, start_s: float) -> None:
    found = chosen([0, key_s])
    assert [look.source for look in found[first - 1 : first + 2]] == [0, first, first]
    place = found[first].place
    assert place
    assert (place.start_s, place.length_s) == (start_s, 2.5 * (first + 1) - start_s)


@pytest.mark.parametrize("change", [{"step_max": 0.6}, {"bits_per_pixel": -1.1}])
def test_other_packets_need_pixels_of_their_own(change: dict[str, float]) -> None:
    features = [ALIKE] * 8
    features[2] = ALIKE._replace(**change)
    assert sources([0], features)[:4] == [0, 0, 2, 3]


def test_packets_that_tell_nothing_need_pixels_of_their_own() -> None:
    assert sources([0], [UNKNOWN_BITSTREAM] * 8) == list(range(8))


def test_parts_that_lie_apart_need_pixels_of_their_own() -> None:
    assert sources([0], [ALIKE] * 4, PARTS[::2]) == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def loaded(make_video: MakeVideo) -> tuple[list[LoadedPart], list[LoadedPart]]:
    """Sixteen parts of a shot, the ninth of which is coded coarsely: not skimmed, and skimmed."""
    coder = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-g", "999", "-bf", "0"]
    zone = ["-x264-params", "scenecut=0:zones=40,44,crf=44"]
    source = "testsrc2=size=96x64:rate=10:duration=8"
    info = probe(make_video("planted.mp4", source, [*coder, *zone]))
    views = recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 16}).views
    preprocessor = ClipPreprocessor(views, 2, FrameGroup(2), True, is_divisible=True)
    parts = [TimeRange(0.5 * index, 0.5) for index in range(16)]
    return tuple(  # type: ignore[return-value]  # of two
        list(preprocessor.load_parts(info, None, parts, skims=skims)) for skims in (False, True)
    )


def test_a_coarse_stretch_is_decoded(loaded: tuple[list[LoadedPart], list[LoadedPart]]) -> None:
    _, skimmed = loaded
    own = [part.num_frame_groups > 0 for part in skimmed]
    assert own[0]
    assert own[8]
    assert sum(own) < 8


def test_every_part_keeps_its_own_packets(
    loaded: tuple[list[LoadedPart], list[LoadedPart]],
) -> None:
    whole, skimmed = loaded
    views = recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 16}).views
    of_stream = [isinstance(view, GroupedView) and view.is_of_stream for view in views]
    assert sum(of_stream) == 1
    place = of_stream.index(True)
    latest = skimmed[0]
    for one, other in zip(whole, skimmed, strict=True):
        assert np.array_equal(one.views[place], other.views[place])
        latest = other if other.num_frame_groups else latest
        assert all(
            mine is its
            for number, (mine, its) in enumerate(zip(other.views, latest.views, strict=True))
            if number != place
        )
