from collections import Counter
from pathlib import Path

import pytest

from ladder import Ffmpeg, probe
from ladder.synthetic import _TURNS, Kind, draw_video, main, make_synthetic


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladder.synthetic._HEIGHTS", ((72, 1.0),))


def test_a_video_depends_on_its_number_alone() -> None:
    assert draw_video(7) == draw_video(7)
    assert draw_video(7).graph != draw_video(7 + len(_TURNS)).graph


def test_the_kinds_take_turns() -> None:
    kinds = Counter(draw_video(number).kind for number in range(2 * len(_TURNS)))
    assert kinds.keys() == set(Kind)
    assert set(kinds.values()) == {2, 4}


def test_codecs_and_qualities_vary() -> None:
    coded = [draw_video(number).generation for number in range(300)]
    assert min(Counter(each.codec for each in coded).values()) > 30
    qualities = [each.quality for each in coded if each.codec == "libx264"]
    assert 10 <= min(qualities) < 15
    assert 40 < max(qualities) <= 45


@pytest.mark.slow
def test_every_kind_is_drawn_and_encoded(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    count = 3 * len(_TURNS)
    done = list(make_synthetic(tmp_path, count, ffmpeg))
    assert [error for _, error in done if error] == []
    for number in range(count):
        video = draw_video(number)
        info = probe(tmp_path / f"{video.kind}-{number:04d}.mp4")
        assert info.display_size == video.size
    assert sum(path.suffix == ".mp4" for path in tmp_path.iterdir()) == count


def test_a_second_run_makes_only_what_is_missing(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    first = [path for path, _ in make_synthetic(tmp_path, 2, ffmpeg)]
    second = [path for path, _ in make_synthetic(tmp_path, 3, ffmpeg)]
    assert len(first) == 2
    assert [path.name for path in second] == ["testsrc-0002.mp4"]


def test_a_video_that_cannot_be_made_is_named_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ladder.synthetic.encoder_args", lambda *args: ["-c:v", "no-encoder"])
    arguments = ["-o", str(tmp_path), "--count", "1"]
    assert main(arguments) == 4
    assert "solid-0000.mp4" in (message := capsys.readouterr().err)
    assert "0 videos made, 1 failed" in message
    assert not list(tmp_path.glob("solid*"))
    monkeypatch.undo()
    monkeypatch.setattr("ladder.synthetic._HEIGHTS", ((72, 1.0),))
    assert main(arguments) == 0
