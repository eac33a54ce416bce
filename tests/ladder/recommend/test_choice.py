"""Which rungs are chosen: spacing, limits, rounding."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest

from ladder.errors import CurveError, LadderFileError
from ladder.recommend.choice import (
    Axis,
    Choice,
    Delivery,
    Limits,
    Spacing,
    choose_rungs,
    even_steps,
    parse_spacing,
)
from ladder.recommend.envelope import Envelope, Sample, SizeCurve
from tests.ladder.recommend.test_envelope import SIZES, samples

ENVELOPE = Envelope(SizeCurve(samples(size, rates)) for size, rates in SIZES.items())
X264 = Delivery()


def chosen(**limits: object) -> list[Choice]:
    return choose_rungs(ENVELOPE, X264, Limits(**limits))  # type: ignore[arg-type]


def qualities(choices: Sequence[Choice]) -> list[float]:
    return [choice.quality for choice in choices]


def test_a_spacing_is_read() -> None:
    assert parse_spacing("vmaf:6") == Spacing(Axis.VMAF, 6)
    assert parse_spacing(" log:1.7 ") == Spacing(Axis.LOG, 1.7)


@pytest.mark.parametrize("text", ["6", "vmaf", "vmaf:0", "log:1", "log:0.5", "vmaf:-3", "psnr:2"])
def test_other_spacings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither vmaf:POINTS"):
        parse_spacing(text)


def test_steps_are_even_and_widened_where_there_are_too_many() -> None:
    assert even_steps(95, 70, 6, 10) == [95, 89, 83, 77, 71]
    assert even_steps(95, 71, 6, 10) == [95, 89, 83, 77, 71]
    assert even_steps(95, 35, 6, 4) == [95, 75, 55, 35]
    assert even_steps(95, 35, 6, 1) == [95]
    assert even_steps(50, 50, 6, 4) == [50]


def test_rungs_are_spaced_in_vmaf() -> None:
    found = chosen(spacing=Spacing(Axis.VMAF, 8))
    assert len(found) == 7
    # a CRF is a whole number: half a step of it is a point or two of VMAF
    assert qualities(found) == pytest.approx([95 - 8 * n for n in range(7)], abs=2.2)
    assert {choice.rung.height_px for choice in found} == {270, 540, 1080}
    heights = [choice.rung.height_px for choice in found]
    assert heights == sorted(heights, reverse=True)


def test_rungs_are_spaced_in_log_bitrate() -> None:
    found = chosen(spacing=Spacing(Axis.LOG, 2))
    ratios = [above.rate_kbps / below.rate_kbps for above, below in pairwise(found)]
    assert ratios == pytest.approx([2] * len(ratios), rel=0.13)  # a CRF step is 12 %
    assert len(found) > 3


def test_predictions_are_those_of_the_rounded_rung() -> None:
    curves = {curve.height_px: curve for curve in ENVELOPE.curves}
    for choice in chosen():
        curve = curves[choice.rung.height_px]
        assert choice.rung.crf
        assert choice.rate_kbps == pytest.approx(curve.rate_of(choice.rung.crf))
        assert choice.quality == pytest.approx(curve.quality_at(choice.rate_kbps))
        assert choice.below_hull >= 0


def test_every_limit_is_kept() -> None:
    limited = chosen(min_kbps=150.0, max_kbps=1500.0, bottom_quality=0.0)
    assert all(150 <= choice.rate_kbps <= 1500 for choice in limited)
    assert max(qualities(limited)) < 95
    for bottom in (55.0, 58.5, 60.0, 61.0):  # also after rounding
        assert bottom <= min(qualities(chosen(bottom_quality=bottom))) < bottom + 8
    assert qualities(chosen(top_quality=80.0))[0] == pytest.approx(80, abs=2.2)
    few = chosen(max_rungs=3, bottom_quality=35.0)
    assert qualities(few) == pytest.approx([95, 65, 35], abs=2.2)


def test_a_top_that_is_not_reached_becomes_the_best_that_is() -> None:
    best = ENVELOPE.quality_at(ENVELOPE.high_kbps)
    assert qualities(chosen(top_quality=100.0))[0] == pytest.approx(best, abs=0.01)


def test_a_bottom_above_what_is_reached_leaves_the_top_rung() -> None:
    assert len(chosen(max_kbps=100.0, bottom_quality=90.0)) == 1


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_kbps": 40.0}, "what was measured has 50 to 6400 kbit/s"),
        ({"min_kbps": 9000.0}, "what was measured has 50 to 6400 kbit/s"),
        ({"min_kbps": 3000.0, "top_quality": 60.0}, "lower --min-kbps or raise --top-vmaf"),
    ],
)
def test_limits_that_leave_nothing_are_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(CurveError, match=message):
        chosen(**limits)


def test_two_steps_that_round_to_one_rung_are_one() -> None:
    found = chosen(spacing=Spacing(Axis.VMAF, 0.3), max_rungs=100)
    names = [choice.rung.name for choice in found]
    assert len(set(names)) == len(names) < 100
    assert all(above > below for above, below in pairwise(qualities(found)))


def test_bitrates_are_rounded_to_two_or_three_digits() -> None:
    by_bitrate = Delivery("libx265", False, "slow")
    assert [by_bitrate.rounded(kbps) for kbps in (57.3, 144, 2344, 23456)] == [57, 140, 2340, 23500]
    assert by_bitrate.rounded(144, is_up=True) == 150
    assert by_bitrate.rounded(3) == 10
    assert by_bitrate.rung(720, 2340).name == "720p-2340k-x265-slow"


def test_a_crf_spends_more_where_it_is_lower() -> None:
    assert X264.rounded(27.4) == 27
    assert X264.rounded(27.4, is_up=True) == 27
    assert X264.rounded(27.4, is_up=False) == 28
    assert (X264.rounded(0.2), X264.rounded(90)) == (1, 51)
    with pytest.raises(LadderFileError, match="preset"):
        Delivery(preset="warp").rung(720, 20)


def test_rungs_by_bitrate_ask_for_what_gives_the_rate() -> None:
    """An encoder that spends a tenth less than asked for is asked for more."""
    spent = [
        Sample(540, round(rate / 0.9), rate, s.vmaf, s.vmaf_p5)
        for rate, s in zip(SIZES[540], samples(540, SIZES[540]), strict=True)
    ]
    only = choose_rungs(Envelope([SizeCurve(spent)]), Delivery(is_crf=False), Limits(max_rungs=4))
    assert len(only) == 4
    for choice in only[1:3]:
        assert choice.rung.bitrate_kbps == pytest.approx(choice.rate_kbps / 0.9, rel=0.01)
        assert math.log10(choice.rung.bitrate_kbps or 1) > 1
