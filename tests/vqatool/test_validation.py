import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vqatool.test_groups import encodes
from vqatool.dataset import CachedViews
from vqatool.groups import LabelledEncode
from vqatool.validation import band, validation


def clips(members: list[LabelledEncode]) -> CachedViews:
    return CachedViews(members, Path(), (), 1, None)


def test_merit_is_the_mean_of_the_srcc_and_that_inside_groups() -> None:
    # rungs in the right order, sources inside each rung in the opposite one
    members = [replace(e, vmaf=e.vmaf + int(e.source[1:])) for e in encodes(4, 3)]
    scores = [e.vmaf - 2 * int(e.source[1:]) for e in members]
    found = validation(scores, [e.vmaf for e in members], clips(members))
    assert found.in_group_srcc == pytest.approx(-1)
    assert found.srcc > 0.5
    assert found.merit == pytest.approx((found.srcc - 1) / 2)


def test_without_groups_of_three_the_srcc_alone_counts() -> None:
    members = encodes(2, 4)
    labels = [e.vmaf for e in members]
    found = validation(labels, labels, clips(members))
    assert math.isnan(found.in_group_srcc)
    assert found.merit == found.srcc == pytest.approx(1)


def test_what_cannot_be_judged_has_the_least_merit() -> None:
    members = encodes(1, 2)
    assert validation([1.0, 2.0], [3.0, 4.0], clips(members)).merit == -1


def test_the_band_holds_nine_of_ten_errors() -> None:
    assert band(list(range(10)), [0.0] * 10) == 9
    assert band(list(range(11)), [0.0] * 11) == 9
