import io

import pytest
from rich.console import Console

from vqatool.cli import progress
from vqatool.cli.progress import Progress
from vqatool.terminal import shown


@pytest.fixture
def out() -> Console:
    return Console(file=io.StringIO(), width=100)


def text(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)


def test_the_time_left_follows_weight_and_not_number(out: Console) -> None:
    with Progress("encoding", {"big": 9.0, "small": 1.0}, output=out) as work:
        work.finish("small")
        first = text(out)
        work.update("big", 0.5)
        work.finish("big")
    assert "encoding: 1/2, 10%" in first
    assert "encoding: 1/2, 55%" in text(out)
    assert "small" in first
    assert "encoding: 2/2, 100%, about 0 s left" in text(out)


def test_a_share_never_falls_back_nor_passes_the_whole(out: Console) -> None:
    with Progress("x", {"a": 1.0}, output=out) as work:
        for share in (0.6, 0.2, 7.0):
            work.update("a", share)
    assert [line.split(", ")[1] for line in text(out).splitlines()] == ["60%", "60%", "100%"]


def test_pieces_nobody_planned_do_no_harm(out: Console) -> None:
    with Progress("x", {}, output=out) as work:
        work.finish("surprise")
    assert "x: 1/0" in text(out)


def test_steps_are_told_with_their_note(out: Console) -> None:
    with Progress("decoding", output=out) as steps:
        steps.show("training", 3, 10, "quality 0.1")
    line = text(out)
    assert line.startswith("training: 3/10, about ")
    assert line.endswith(" s left, quality 0.1\n")


def test_what_a_terminal_could_stumble_over_is_marked() -> None:
    assert shown("a\nb\x1b[31m\udce9") == "a\ufffdb\ufffd[31m\ufffd"
    assert shown("plain, ümläut, 映画") == "plain, ümläut, 映画"
