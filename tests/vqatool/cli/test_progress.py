import io
import re
import time

import pytest
from rich.console import Console

from vqatool.cli import progress
from vqatool.cli.progress import Progress
from vqatool.terminal import set_verbosity


@pytest.fixture
def out() -> Console:
    return Console(file=io.StringIO(), width=100)


def text(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)


def test_the_time_left_follows_cost_and_not_count(out: Console) -> None:
    with Progress("encoding", {"big": 9.0, "small": 1.0}, output=out) as work:
        work.finish("small")
        first = text(out)
        work.update("big", 0.5)
        work.finish("big")
    assert "encoding: 1/2, 10% of the work" in first
    assert "encoding: 1/2, 55% of the work" in text(out)
    assert "small" in first
    assert "encoding: 2/2, 100% of the work, about 0 s left" in text(out)


def test_what_is_finished_in_a_second_is_shown_where_there_is_room(out: Console) -> None:
    narrow = Console(file=io.StringIO(), width=80, force_terminal=True)
    for console in (out, narrow):
        with Progress("scoring", {"a": 1.0, "b": 1.0}, unit="files", output=console) as work:
            work.update("a", 0.5)  # none yet
            work.finish("a")
    assert "0/2, 25% of the work, about" in text(out)
    assert re.search(r"1/2, 50% of the work, \d+\.\d\d files/s, about", text(out))
    assert "files/s" not in text(narrow)


def test_a_share_neither_falls_nor_exceeds_the_whole(out: Console) -> None:
    with Progress("x", {"a": 1.0}, output=out) as work:
        for share in (0.6, 0.2, 7.0):
            work.update("a", share)
    assert [line.split(", ")[1].split()[0] for line in text(out).splitlines()] == [
        "60%",
        "60%",
        "100%",
    ]


def test_parts_that_were_not_planned_do_no_harm(out: Console) -> None:
    with Progress("x", {}, output=out) as work:
        work.finish("surprise")
    assert "x: 1/0" in text(out)


def test_a_part_of_many_costs_what_a_part_of_few_costs(
    out: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 60.0)

    def seconds(count: int) -> float:
        with Progress("scoring", count=count, unit="files", output=out) as work:
            started = time.process_time()
            for number in range(200):
                work.finish(str(number))
        return time.process_time() - started

    assert seconds(10**6) < 10 * seconds(200) + 0.1
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with Progress("scoring", count=4, output=out) as work:
        work.finish("a")
    assert "scoring: 1/4, 25% of the work" in text(out)


def test_steps_are_shown_with_their_note(out: Console) -> None:
    with Progress("decoding", output=out) as steps:
        steps.show("training", 3, 10, "quality 0.1")
    line = text(out)
    assert line.startswith("training: 3/10, about ")
    assert line.endswith(" s left, quality 0.1\n")


def test_quiet_hides_progress(out: Console) -> None:
    set_verbosity(-1)
    try:
        with Progress("encoding", {"a": 1.0}, output=out) as work:
            work.finish("a")
    finally:
        set_verbosity(0)
    assert text(out) == ""


def test_a_terminal_gets_a_bar_that_vanishes_and_no_lines() -> None:
    out = Console(file=io.StringIO(), width=100, force_terminal=True, _environ={"TERM": "xterm"})
    with Progress("encoding", {"a": 1.0}, output=out) as work:
        work.finish("a")
    assert "\x1b[" in text(out)
    assert "about" not in text(out)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_terminal_without_cursor_gets_lines(environment: dict[str, str]) -> None:
    out = Console(file=io.StringIO(), width=100, force_terminal=True, _environ=environment)
    with Progress("encoding", {"a": 1.0}, output=out) as work:
        work.finish("a")
    assert "encoding: 1/1" in text(out)


def test_no_color_is_respected() -> None:
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1"}
    out = Console(file=io.StringIO(), width=100, force_terminal=True, _environ=environment)
    with Progress("encoding", {"a": 1.0}, output=out) as work:
        work.finish("a")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", text(out))


def test_a_long_name_leaves_room_for_the_bar() -> None:
    out = Console(file=io.StringIO(), width=80, force_terminal=True)
    name = "videos/a-source-with-a-name-that-goes-on-and-on-and-on-1080p-4500k-x264.mp4"
    with Progress("scoring", {name: 1.0, "b": 1.0}, output=out) as work:
        work.finish(name)
    shown = [line for line in re.split(r"[\r\n]", text(out)) if "x264.mp4" in line]
    assert shown
    assert all("1/2, 50%" in line and "scoring" in line for line in shown)
