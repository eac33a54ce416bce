from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from ladder import Ffmpeg, probe
from ladder.media.ffmpeg import run
from ladder.photographs import Kind, camera_filter, draw_move, find_photographs, main, make_moving

MakePhotograph = Callable[..., Path]


@pytest.fixture(name="make_photograph")
def make_photograph_fixture(tmp_path: Path, ffmpeg: Ffmpeg) -> MakePhotograph:
    def make(name: str, size: str = "320x180") -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        source = f"mandelbrot=s={size}:start_scale=0.4"
        run(ffmpeg, ["-f", "lavfi", "-i", source, "-frames:v", "1", f"file:{path}"], timeout_s=60)
        return path

    return make


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def name_of(kind: Kind) -> str:
    """Of a move without noise, and if it can be without a hand."""
    for number in range(999):
        move = draw_move(f"{number}")
        if move.kind is kind and not move.noise and (kind is Kind.HELD or not move.sways[0]):
            return f"{number}"
    raise AssertionError(kind)


def test_a_move_depends_on_the_name_alone() -> None:
    assert draw_move("park") == draw_move("park")
    assert draw_move("park") != draw_move("tower")


def test_moves_vary() -> None:
    moves = [draw_move(f"{number}") for number in range(300)]
    assert min(Counter(move.kind for move in moves).values()) > 30
    assert Counter(move.shutter for move in moves).keys() == {1, 2, 3}
    assert all(move.shutter == 1 for move in moves if move.kind is Kind.WHIP)
    assert {move.fps for move in moves} == {24, 25, 30}
    assert any(move.noise for move in moves)


def test_the_view_never_leaves_the_picture() -> None:
    for number in range(500):
        move = draw_move(f"{number}")
        turn = abs(move.angle[0])
        sides = max(move.zoom) * (np.cos(turn) + 16 / 9 * np.sin(turn))
        for sways in move.sways:
            assert sides + 2 * sum(sway.amplitude for sway in sways) < 1, number


@pytest.mark.parametrize("kind", list(Kind))
def test_the_picture_moves_as_drawn(
    kind: Kind, make_photograph: MakePhotograph, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    photograph = make_photograph(f"{name_of(kind)}.png")
    [(path, error)] = make_moving([photograph], tmp_path / "clean", 72, ffmpeg)
    assert (path, error) == (tmp_path / "clean" / f"{photograph.stem}.mp4", None)
    move, made = draw_move(photograph.stem), frames(tmp_path / "clean" / f"{photograph.stem}.mp4")
    assert made.shape == (round(2.2 * move.fps), 72, 128)
    ends = np.abs(made[0].astype(float) - made[-1]).mean()
    steps = np.abs(np.diff(made.astype(float), axis=0)).mean((1, 2))
    if kind is not Kind.HELD:
        assert ends > 4 * steps.mean() > 0  # it goes one way
        assert steps.min() > 0.25 * np.median(steps)  # and no frame is shown twice


def test_an_upright_photograph_makes_an_upright_video(
    make_photograph: MakePhotograph, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    photograph = make_photograph("tower.jpg", "180x320")
    list(make_moving([photograph], tmp_path / "clean", 72, ffmpeg))
    assert probe(tmp_path / "clean" / "tower.mp4").display_size == (72, 128)


def test_an_open_shutter_blurs_what_moves() -> None:
    name = next(f"{number}" for number in range(99) if draw_move(f"{number}").shutter == 3)
    assert "tmix=frames=3," in camera_filter(draw_move(name), 72)
    name = next(f"{number}" for number in range(99) if draw_move(f"{number}").shutter == 1)
    assert "tmix" not in camera_filter(draw_move(name), 72)


def test_a_second_run_makes_only_what_is_missing(
    make_photograph: MakePhotograph, tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    first, out = make_photograph("one.png"), tmp_path / "clean"
    assert len(list(make_moving([first], out, 72, ffmpeg))) == 1
    second = make_photograph("two.png")
    assert list(make_moving([first, second], out, 72, ffmpeg)) == [(out / "two.mp4", None)]


def test_what_cannot_be_made_is_named_and_leaves_no_file(
    make_photograph: MakePhotograph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_photograph("good.png")
    make_photograph("small.png", "160x90")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "photos" / "notes.txt").write_text("not a photograph")
    twin = make_photograph("good.jpg")
    out = tmp_path / "clean"
    assert main([str(twin.parent), "-o", str(out), "--height", "72"]) == 4
    told = capsys.readouterr().err
    assert "small.png is 160x90 px: enough for a video of 56 lines, not of 72" in told
    assert "broken.jpg" in told
    assert f"{twin} has the same name" in told
    assert "1 videos made, 3 failed" in told
    assert [path.name for path in out.iterdir() if path.suffix == ".mp4"] == ["good.mp4"]


@pytest.mark.parametrize("height", ["0", "71"])
def test_an_odd_height_is_refused(
    height: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "-o", str(tmp_path / "clean"), "--height", height])
    assert f"--height: {height}: give an even number" in capsys.readouterr().err


def test_a_folder_without_photographs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "-o", str(tmp_path / "clean")])
    assert f"no photograph in {tmp_path}" in capsys.readouterr().err


def test_photographs_are_found_below_folders(make_photograph: MakePhotograph) -> None:
    path = make_photograph("one.png")
    make_photograph(".hidden.png")
    assert find_photographs([path.parent.parent]) == [path]
