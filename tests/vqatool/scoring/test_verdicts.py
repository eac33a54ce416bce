"""The verdict of a score and its band."""

import pytest

from vqatool.scoring.verdicts import LOWEST_SCORES, Verdict, verdict
from vqatool.scoring.warning_codes import UNTRUSTED


@pytest.mark.parametrize(
    ("score", "expected"),
    [(100, "good"), (70, "good"), (69.99, "fair"), (50, "fair"), (49.99, "poor"), (30, "poor"),
     (29.99, "bad"), (0, "bad")],
)  # fmt: skip
def test_limits_lie_halfway_between_the_answers_of_the_opinion_test(
    score: float, expected: str
) -> None:
    assert verdict(score, score, score, ()) == expected
    assert all((limit - 30) % 20 == 0 for each, limit in LOWEST_SCORES.items() if each != "bad")


@pytest.mark.parametrize(
    ("low", "score", "high", "expected"),
    [
        (51, 60, 69, "fair"),
        (30, 60, 100, "fair"),  # neighbours on both sides
        (29, 60, 80, "unsure"),
        (29, 49, 70, "unsure"),
        (0, 29, 49, "bad"),
        (0, 29, 50, "unsure"),
        (49, 80, 100, "unsure"),
    ],
)
def test_a_band_that_reaches_beyond_the_neighbours_is_unsure(
    low: float, score: float, high: float, expected: str
) -> None:
    assert verdict(score, low, high, ()) == expected


def test_a_score_that_is_not_to_be_trusted_is_unsure() -> None:
    for code in UNTRUSTED:
        assert verdict(95, 90, 100, ["vfr", code]) is Verdict.UNSURE
    assert verdict(95, 90, 100, ["vfr", ""]) is Verdict.GOOD
