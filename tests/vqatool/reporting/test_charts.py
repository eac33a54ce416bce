"""The geometry of charts."""

import pytest

from tests.vqatool.reporting.pages import segments
from vqatool.reporting.charts import clock, histogram, strip, timeline, waterfall


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0:00"), (12.5, "0:12.5"), (59.96, "1:00"), (130.0, "2:10"), (3723.04, "1:02:03")],
)
def test_times_are_shown_as_players_do(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_each_score_is_in_one_bar_and_the_fullest_is_as_high_as_the_chart() -> None:
    bars = histogram([0.0, 4.99, 5.0, 99.9, 100.0, 100.0])
    counts = {(bar.low, bar.high): bar.count for bar in bars if bar.count}
    assert counts == {(0, 5): 2, (5, 10): 1, (95, 100): 3}
    assert len(bars) == 20
    assert bars[-1].height == 120
    assert bars[0].height == 80
    assert bars[0].y == 40
    assert sum(bar.count for bar in histogram([-3.0, 104.0])) == 2
    assert {bar.height for bar in histogram([])} == {0}


def test_a_timeline_has_a_step_for_each_segment() -> None:
    line = timeline(segments("a.mp4", 80.0, 20.0), marked_s=[15.0])
    assert line.line == "0.0,20.0 300.0,20.0 300.0,80.0 600.0,80.0"
    assert line.band == (
        "0.0,15.0 300.0,15.0 300.0,75.0 600.0,75.0 600.0,85.0 300.0,85.0 300.0,25.0 0.0,25.0"
    )
    assert [(mark.x, mark.label) for mark in line.marks] == [(450.0, "1")]
    assert [(flag.x, flag.label) for flag in line.flags] == [(0.0, "damaged")]
    assert [tick.label for tick in line.ticks] == ["0:00", "0:05", "0:10", "0:15", "0:20"]
    assert line.description == (
        "2 segments from 0:00 to 0:20: the lowest score is 20.0 at 0:10, the highest 80.0; "
        "1 with warnings"
    )


def test_a_long_timeline_keeps_its_lowest_scores() -> None:
    scores = [90.0] * 5000
    scores[4321] = 3.0
    line = timeline(segments("long.mp4", *scores))
    heights = [float(point.split(",")[1]) for point in line.line.split()]
    assert len(heights) == 480
    assert heights.count(97.0) == 2
    assert len(line.ticks) <= 7
    assert "5000 segments" in line.description


def test_a_timeline_of_no_length_can_be_drawn() -> None:
    line = timeline(segments("still.mp4", 50.0, length_s=0.0))
    assert line.line == "0.0,50.0 0.0,50.0"


def test_frames_are_dots_where_they_can_be_told_apart() -> None:
    line = timeline(segments("a.mp4", 80.0, 20.0), frames=[(5.0, 70.0), (15.0, 130.0)])
    assert line.dots == ((150.0, 30.0), (450.0, 0.0))
    many = [(each / 100, 50.0) for each in range(2000)]
    assert timeline(segments("a.mp4", 80.0, 20.0), frames=many).dots == ()


def test_bars_of_a_strip_stand_on_zero() -> None:
    line = strip("pixels", [(0.0, 1.0), (1.0, 2.0)], [-20.0, 10.0], -20, 20, "+.1f")
    assert [(bar.x, bar.y, bar.width, bar.height) for bar in line.bars] == [
        (0.0, 30.0, 299.0, 30.0),
        (300.0, 15.0, 299.0, 15.0),
    ]
    assert line.axis_y == 30.0
    assert [(label.x, label.label) for label in line.labels] == [(0, "20"), (30, "0"), (60, "-20")]
    assert line.description == "pixels: lowest -20.0 at 0:00, highest +10.0 at 0:01"


def test_a_long_strip_keeps_what_is_furthest_from_zero() -> None:
    values = [1.0] * 5000
    values[4321] = -40.0
    times_s = [(each, each + 1.0) for each in range(5000)]
    line = strip("motion", times_s, values, -40, 40)
    assert len(line.bars) == 240
    assert [bar.height for bar in line.bars].count(30.0) == 1


def test_each_part_of_a_waterfall_begins_where_the_one_above_ends() -> None:
    fall = waterfall(("typical", 80.0), {"motion": 10.0, "pixels": -60.0}, "this")
    assert [(bar.x, bar.width) for bar in fall.bars] == [(0, 320), (320, 40), (120, 240), (0, 120)]
    assert [bar.value for bar in fall.bars] == ["80.0", "+10.0", "-60.0", "30.0"]
    assert fall.joints == (320, 360, 120)
    assert fall.height == 96
    assert fall.description == "typical 80.0, motion +10.0, pixels -60.0, this 30.0"
    # parts may lead out of the range of scores on their way
    beyond = waterfall(("typical", 80.0), {"motion": 40.0, "pixels": -20.0}, "this")
    assert max(bar.x + bar.width for bar in beyond.bars) <= 400
