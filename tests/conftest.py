"""Small videos that ffmpeg makes up, one of each kind for the whole run: no media lies in git."""

import fcntl
import gc
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ladder import Ffmpeg, find_ffmpeg
from ladder.media.ffmpeg import file_url, run, usable_cores

if TYPE_CHECKING:
    from tests.object_store import ObjectStore

# every core has tests to run already, and torch's threads wait by spinning
os.environ.setdefault("OMP_NUM_THREADS", "1")

gc.disable()  # until all modules are loaded: it would look at them eleven times


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a test also waits for the processes that it has started."""
    return usable_cores() + 1


def pytest_collection_finish() -> None:
    """Collect garbage again, but never look for it in what was loaded."""
    gc.collect()
    gc.freeze()
    gc.enable()


MakeVideo = Callable[..., Path]
"""`make_video(name, source, args)`: see the fixture."""

MadeOnce = Callable[[str, Callable[[Path], object]], Path]
"""`made_once(name, make)`: see the fixture."""

CloseFolder = Callable[..., None]
"""`close_folder(parent, video)`: see the fixture."""

EXACT = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "0", "-pix_fmt", "yuv420p")
"""Encoder settings that keep every pixel of an 8-bit picture."""


@pytest.fixture(scope="session")
def ffmpeg() -> Ffmpeg:
    return find_ffmpeg()


def _once(mark: Path, make: Callable[[], object], recipe: str = "made") -> None:
    """Call `make` in the first process that comes; the others wait for it, and find the mark."""
    with mark.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = file.read()
        if not known:
            make()
            file.write(recipe)
    assert known in ("", recipe), f"two recipes are called {mark.name}"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """`made_once("work", make)`: a folder that `make(folder)` fills for all workers of the run.

    Treat it as read-only: other tests and other workers share it.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def shared(name: str, make: Callable[[Path], object]) -> Path:
        folder = base / "shared" / name
        folder.mkdir(parents=True, exist_ok=True)
        _once(folder.with_name(f"{name}.made"), lambda: make(folder))
        return folder

    return shared


@pytest.fixture(scope="session")
def make_video(ffmpeg: Ffmpeg, made_once: MadeOnce) -> MakeVideo:
    """`make_video("clip.mp4", "testsrc2=size=96x64:rate=25:duration=1", args)`: made once a name.

    `source` is a lavfi graph or another file; `args` stand between it and the output, `before`
    stand before the input. Treat the file as read-only: other tests share it.
    """
    folder, marks = (made_once(name, lambda folder: None) for name in ("videos", "made"))

    def make(
        name: str, source: str | Path, args: Sequence[str] = EXACT, before: Sequence[str] = ()
    ) -> Path:
        path = folder / name
        given = (
            ["-i", file_url(source)] if isinstance(source, Path) else ["-f", "lavfi", "-i", source]
        )
        command = [*before, *given, *args, "-y", file_url(path)]
        _once(marks / name, lambda: run(ffmpeg, command, timeout_s=60), "\n".join(command))
        return path

    return make


@pytest.fixture(scope="session")
def source_video(make_video: MakeVideo) -> Path:
    """Moving fine detail: 192x108, 25 fps, 24 frames, near-lossless x264."""
    scene = "mandelbrot=size=192x108:rate=25:start_scale=0.6:end_pts=60,noise=alls=6:all_seed=1"
    args = ("-frames:v", "24", "-c:v", "libx264", "-preset", "fast", "-crf", "4")
    return make_video("source.mp4", scene, (*args, "-pix_fmt", "yuv420p"))


@pytest.fixture(scope="session")
def interlaced_later(make_video: MakeVideo, ffmpeg: Ffmpeg, made_once: MadeOnce) -> Path:
    """24 progressive frames of `source_video`'s size, then 24 interlaced ones: H.264 at 25 fps."""
    coder = ("-frames:v", "24", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "8")
    scene = "mandelbrot=size=192x112:rate={}:start_scale=0.6:end_pts=60{}"
    frames = make_video("progressive.ts", scene.format(25, ""), coder)
    fields = ("-flags", "+ildct+ilme", "-x264-params", "tff=1", "-vf", "setfield=tff", *coder)
    woven = make_video("woven.ts", scene.format(50, ",tinterlace=interleave_top"), fields)
    command = ["-i", f"concat:{frames}|{woven}", "-c", "copy", "both.ts"]
    return made_once("interlaced", lambda folder: run(ffmpeg, command, cwd=folder)) / "both.ts"


@pytest.fixture
def close_folder(monkeypatch: pytest.MonkeyPatch) -> CloseFolder:
    """`close_folder(parent, video)`: `parent/closed/closed.mp4` and `parent/open/open.mp4`.

    Both are copies of the video. `closed` has no access: `fault`, a method of `Path`, raises a
    PermissionError for it.
    """

    def close(parent: Path, video: Path, fault: str = "iterdir") -> None:
        for name in ("closed", "open"):
            (parent / name).mkdir(parents=True)
            shutil.copy(video, parent / name / f"{name}.mp4")
        real = getattr(Path, fault)

        def refuse(path: Path) -> object:  # chmod would not do: root may read any folder
            if path.name == "closed":
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(Path, fault, refuse)

    return close


@pytest.fixture(scope="session")
def _running_store() -> "Iterator[ObjectStore]":
    from tests.object_store import object_store  # loads a server, which most tests do without

    with object_store() as store:
        yield store


@pytest.fixture
def store(
    _running_store: "ObjectStore", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> "ObjectStore":
    """A server of S3 that counts what it sends, with its settings in the environment."""
    from ladder.media import remote, stores

    for name in stores.store_environment():
        monkeypatch.delenv(name)
    for name, value in _running_store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stores.store_of.cache_clear()
    remote._block.cache_clear()
    _running_store.forget()
    return _running_store
