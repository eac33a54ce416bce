"""The drawing of every frame: what it keeps of long videos, its axes, odd names and values."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from vqatool.files import require_own_files
from vqatool.reporting.frame_plot import MAX_CURVES, Curve, thinned, write_frame_plot


def texts_and_points(curves: list[Curve], path: Path) -> tuple[list[str], list[list[str]]]:
    write_frame_plot(curves, "title", path)
    drawing = list(ElementTree.parse(path).getroot().iter())
    texts = [each.text or "" for each in drawing if each.tag.endswith("text")]
    lines = [each.attrib["points"].split() for each in drawing if each.tag.endswith("polyline")]
    return texts, lines


def test_a_long_video_keeps_its_worst_frame_and_few_points() -> None:
    values = [90.0 + index % 7 for index in range(54_321)]
    values[40_000], values[40_001] = 3.0, 99.5
    points = thinned(values)
    assert len(points) <= 2000
    assert {(40_000, 3.0), (40_001, 99.5)} <= set(points)
    assert [index for index, _ in points] == sorted({index for index, _ in points})
    assert thinned(values[:2000]) == list(enumerate(values[:2000]))


def test_the_axes_hold_all_values_and_the_legend_names_the_worst_frame(tmp_path: Path) -> None:
    curves = [Curve("a", [95.0, 62.5, 97.0], 0.5), Curve("b", [80.0] * 5, 0.25)]
    texts, lines = texts_and_points(curves, tmp_path / "f.svg")
    assert texts[0] == "title"
    assert {"60", "100", "0", "1", "seconds"} <= set(texts)
    assert texts[-2:] == [
        "a: mean 84.83, lowest 62.50 at 0.50 s",
        "b: mean 80.00, lowest 80.00 at 0.00 s",
    ]
    ends = [[float(point.split(",")[0]) for point in line] for line in lines]
    assert ends[0][0] == ends[1][0]  # both begin together
    assert ends[0][-1] == ends[1][-1]  # and last one second
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights[1] > heights[0] > heights[2]  # down is worse


@pytest.mark.parametrize("values", [[50.0], [100.0] * 3, [0.0, 0.0], [97.42804264261361] * 2])
def test_one_frame_and_equal_frames_can_be_drawn(tmp_path: Path, values: list[float]) -> None:
    texts, lines = texts_and_points([Curve("a", values, 0.04)], tmp_path / "f.svg")
    assert [len(line) for line in lines] == [len(values)]
    assert "nan" not in (tmp_path / "f.svg").read_text()
    assert len(texts) > 5


def test_names_may_be_anything_and_the_drawing_is_ours(tmp_path: Path) -> None:
    name = 'a<b> & "c"\x00\x1b\udce9.mp4'
    texts, _ = texts_and_points([Curve(name, [1.0, 2.0], 1.0)], tmp_path / "f.svg")
    assert texts[-1].startswith('a<b> & "c"���.mp4: mean')
    require_own_files(pictures=[tmp_path / "f.svg"])


def test_every_curve_has_a_line(tmp_path: Path) -> None:
    curves = [Curve(str(number), [1.0, 2.0], 1.0) for number in range(MAX_CURVES)]
    assert len(texts_and_points(curves, tmp_path / "f.svg")[1]) == MAX_CURVES
