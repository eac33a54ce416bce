"""Finding ffmpeg, querying its capabilities, and running it without leaving processes."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest

import ladder.media.ffmpeg
from ladder.codecs import CODECS
from ladder.errors import CapabilityError, FfmpegError
from ladder.media.ffmpeg import (
    Ffmpeg,
    _Children,
    allocate_workers,
    ffmpeg_on_path,
    file_url,
    find_ffmpeg,
    libvmaf_fault,
    partition_outputs,
    run,
    run_parallel,
    usable_cores,
)

FakeFfmpeg = Callable[..., Path]

SLEEPS_S = 120
SLEEPS = f'echo $$ >> "$0.pids"; sleep {SLEEPS_S} & echo $! >> "$0.pids"; wait'
"""Script of a fake ffmpeg that sleeps, with a child that sleeps; both write their process ids."""


@pytest.fixture
def fake_ffmpeg(tmp_path: Path) -> FakeFfmpeg:
    """`fake_ffmpeg(folder, body, filters)`: a script that lists filters or runs `body`."""

    def make(folder: str, body: str = "exit 0", filters: str = "libvmaf") -> Path:
        path = tmp_path / folder / "ffmpeg"
        path.parent.mkdir()
        path.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            f'*-version*) echo "ffmpeg version {folder}-1.0 Copyright"; exit;;\n'
            f'*-filters*) echo " .. {filters}  VV->V  Calculate."; exit;;\n'
            '*-encoders*) echo " V....D libx264  H.264"; exit;;\n'
            "esac\n"
            f"{body}\n"
        )
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ffmpeg is named or on the PATH; only the bundled one is available."""
    monkeypatch.delenv("VQATOOL_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


def left_running(script: Path) -> list[int]:
    """The processes of a `SLEEPS` script that still run a moment later."""
    pids = [int(line) for line in Path(f"{script}.pids").read_text().split()]
    assert pids
    for _ in range(200):
        pids = [pid for pid in pids if _is_running(pid)]
        if not pids:
            break
        time.sleep(0.05)
    return pids


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # killed processes may remain as zombies
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_for_pids(script: Path, count: int) -> None:
    for _ in range(1500):
        pids = Path(f"{script}.pids")
        if pids.exists() and len(pids.read_text().split()) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{script} was not started {count} times")


# ---- finding


@pytest.mark.usefixtures("bare")
def test_another_machine_takes_what_was_named_and_else_chooses_for_itself(
    bare: None, fake_ffmpeg: FakeFfmpeg
) -> None:
    named = find_ffmpeg(fake_ffmpeg("mine"))
    assert named.here() == named
    assert Ffmpeg("/of/that/machine/ffmpeg", "PATH").here().origin == "bundled"
    with pytest.raises(CapabilityError, match=r"/of/that/machine.*does not run"):
        Ffmpeg("/of/that/machine/ffmpeg", "option").here()


def test_the_option_has_the_highest_priority(
    fake_ffmpeg: FakeFfmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, environment = fake_ffmpeg("option"), fake_ffmpeg("environment")
    monkeypatch.setenv("VQATOOL_FFMPEG", str(environment))
    monkeypatch.setenv("PATH", str(fake_ffmpeg("path").parent))
    assert find_ffmpeg(option) == Ffmpeg(str(option), "option")
    assert find_ffmpeg(option).version == "option-1.0"


@pytest.mark.usefixtures("bare")
def test_the_environment_variable_has_priority_over_the_path(
    fake_ffmpeg: FakeFfmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = fake_ffmpeg("environment")
    monkeypatch.setenv("VQATOOL_FFMPEG", str(environment))
    monkeypatch.setenv("PATH", str(fake_ffmpeg("path").parent))
    assert find_ffmpeg() == Ffmpeg(str(environment), "environment")


@pytest.mark.usefixtures("bare")
def test_the_ffmpeg_on_the_path_is_used_if_it_has_libvmaf(
    fake_ffmpeg: FakeFfmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = fake_ffmpeg("path")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_ffmpeg() == Ffmpeg(str(on_path), "PATH")


@pytest.mark.usefixtures("bare")
def test_the_bundled_ffmpeg_replaces_one_on_the_path_without_libvmaf(
    fake_ffmpeg: FakeFfmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(fake_ffmpeg("path", filters="vmafmotion").parent))
    assert find_ffmpeg() == Ffmpeg(imageio_ffmpeg.get_ffmpeg_exe(), "bundled")


FAULTY = 'echo \'{"version": "3.2.0"}\' > vmaf.json'
"""Script of a fake ffmpeg whose libvmaf says in its log that it is one with a fault."""


@pytest.mark.usefixtures("bare")
def test_a_libvmaf_with_a_known_fault_is_passed_over_unless_it_is_named(
    fake_ffmpeg: FakeFfmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = fake_ffmpeg("path", body=FAULTY)
    monkeypatch.setenv("PATH", f"{on_path.parent}:/bin:/usr/bin")
    assert find_ffmpeg().origin == "bundled"
    assert ffmpeg_on_path() == (Ffmpeg(str(on_path), "PATH"), libvmaf_fault("3.2.0"))
    named = find_ffmpeg(on_path)
    assert (named.origin, named.libvmaf_version) == ("option", "3.2.0")
    assert "memory grows without limit" in named.libvmaf_fault
    mended = fake_ffmpeg("mended", body=FAULTY.replace("3.2.0", "3.2.1"))
    monkeypatch.setenv("PATH", f"{mended.parent}:/bin:/usr/bin")
    assert find_ffmpeg() == Ffmpeg(str(mended), "PATH")


@pytest.mark.parametrize(
    ("version", "is_faulty"),
    [
        ("3.2.0", True),
        ("v3.2.0", True),
        ("v3.2.0-0-g3f9e02af", True),
        ("v3.1.0-131-g4718b4f5", True),
        ("60016fb", True),
        ("60016fbdabcdef", True),
        ("3.1.0", False),
        ("3.2.1", False),
        ("v3.2.0-4-g8fc71e30", False),
        ("8fc71e3", False),
        ("v3.1.0-120-g32780bd9", False),
        ("", False),
        ("3.2.01", False),
    ],
)
def test_the_faulty_versions_of_libvmaf_are_known(version: str, is_faulty: bool) -> None:
    assert (f"libvmaf {version}" in libvmaf_fault(version)) == is_faulty
    assert bool(libvmaf_fault(version)) == is_faulty


def test_libvmaf_tells_its_version(ffmpeg: Ffmpeg) -> None:
    assert re.fullmatch(r"v?[0-9.]+(-\d+-g[0-9a-f]+)?|[0-9a-f]{7,40}", ffmpeg.libvmaf_version)
    assert not ffmpeg.libvmaf_fault


@pytest.mark.usefixtures("bare")
def test_the_bundled_ffmpeg_is_the_last_choice_and_has_every_capability() -> None:
    found = find_ffmpeg()
    assert found.origin == "bundled"
    assert found.has_libvmaf
    assert found.encoders == tuple(CODECS)


@pytest.mark.usefixtures("bare")
def test_a_named_ffmpeg_that_does_not_run_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CapabilityError, match=r"gone.*does not run"):
        find_ffmpeg(tmp_path / "gone")
    monkeypatch.setenv("VQATOOL_FFMPEG", str(tmp_path / "gone too"))
    with pytest.raises(CapabilityError, match=r"gone too.*does not run"):
        find_ffmpeg()
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\necho I am something else\n")
    text.chmod(0o755)
    with pytest.raises(CapabilityError, match="not an ffmpeg program"):
        find_ffmpeg(text)


# ---- capabilities


def test_a_missing_encoder_is_a_capability_error_with_a_remedy(fake_ffmpeg: FakeFfmpeg) -> None:
    ffmpeg = find_ffmpeg(fake_ffmpeg("small"))
    assert ffmpeg.encoders == ("libx264",)
    ffmpeg.require_encoders(["libx264", "libx264"])
    with pytest.raises(CapabilityError) as error:
        ffmpeg.require_encoders(["libx264", "libx265", "libsvtav1"])
    assert "no encoder libsvtav1, libx265:" in str(error.value)
    assert "pip install" in str(error.value)


@pytest.mark.parametrize(
    ("name", "url"), [("a.mp4", "file:/x/a.mp4"), ("-y http:.mp4", "file:/x/-y http:.mp4")]
)
def test_ffmpeg_never_reads_a_file_name_as_an_option_or_a_protocol(name: str, url: str) -> None:
    assert file_url(Path("/x") / name) == url
    assert file_url(Path(name)) == f"file:{Path.cwd() / name}"


# ---- running


def test_a_successful_run_returns_its_warnings(fake_ffmpeg: FakeFfmpeg) -> None:
    ffmpeg = find_ffmpeg(fake_ffmpeg("warner", body="echo a warning >&2"))
    assert run(ffmpeg, []) == "a warning\n"


def test_a_run_passes_arguments_and_folder_unchanged(
    fake_ffmpeg: FakeFfmpeg, tmp_path: Path
) -> None:
    ffmpeg = find_ffmpeg(
        fake_ffmpeg("echo", body='pwd >&2; for a in "$@"; do echo "<$a>" >&2; done')
    )
    lines = run(ffmpeg, ["-i", "a b;$HOME 'c'.mp4", ""], cwd=tmp_path).splitlines()
    assert Path(lines[0]) == tmp_path
    assert lines[-3:] == ["<-i>", "<a b;$HOME 'c'.mp4>", "<>"]
    assert "<-nostdin>" in lines


def test_the_error_of_a_failed_run_has_the_command_and_the_end_of_stderr(
    fake_ffmpeg: FakeFfmpeg,
) -> None:
    body = "for i in 1 2 3 4 5 6 7; do echo word $i >&2; done; exit 187"
    script = fake_ffmpeg("failing", body=body)
    with pytest.raises(FfmpegError) as error:
        run(find_ffmpeg(script), ["-i", "a film.mp4"])
    message = str(error.value)
    assert "status 187" in message
    assert str(script) in message
    assert "-i 'a film.mp4'" in message  # ready to paste
    assert "word 2" not in message
    assert message.endswith("word 3\n  word 4\n  word 5\n  word 6\n  word 7")


def test_the_error_of_the_real_ffmpeg_names_the_cause(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    with pytest.raises(FfmpegError, match="No such file or directory"):
        run(ffmpeg, ["-i", file_url(tmp_path / "gone.mp4"), "-f", "null", "-"])


def test_invalid_utf8_in_stderr_does_not_break_the_error(fake_ffmpeg: FakeFfmpeg) -> None:
    body = r"printf 'caf\351\n' >&2; exit 1"
    with pytest.raises(FfmpegError, match="caf"):
        run(find_ffmpeg(fake_ffmpeg("latin", body=body)), [])


def test_progress_is_reported_in_seconds_of_output(ffmpeg: Ffmpeg) -> None:
    seconds: list[float] = []
    clip = ["-f", "lavfi", "-i", "color=size=64x64:rate=10:duration=3", "-f", "null", "-"]
    run(ffmpeg, clip, on_progress=seconds.append)
    assert seconds[-1] == pytest.approx(3, abs=0.11)
    assert all(0 <= second <= 3.01 for second in seconds)


def test_a_run_over_its_time_limit_is_killed_with_its_children(
    fake_ffmpeg: FakeFfmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = fake_ffmpeg("hanging", body=f"echo still here >&2; {SLEEPS}")

    class LateTimer(threading.Timer):
        def run(self) -> None:
            wait_for_pids(script, 2)  # a busy machine may take longer than the limit to start it
            super().run()

    monkeypatch.setattr("threading.Timer", LateTimer)
    started = time.monotonic()
    with pytest.raises(FfmpegError, match=r"(?s)did not finish within 0\.1 s.*still here"):
        run(find_ffmpeg(script), [], timeout_s=0.1)
    assert time.monotonic() - started < SLEEPS_S / 2
    assert left_running(script) == []


def test_an_interrupted_run_leaves_no_process(fake_ffmpeg: FakeFfmpeg) -> None:
    script = fake_ffmpeg("interrupted", body=f"echo out_time_us=1000000; {SLEEPS}")

    def interrupt(seconds: float) -> None:
        wait_for_pids(script, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(find_ffmpeg(script), [], on_progress=interrupt)
    assert left_running(script) == []


# ---- parallel runs


def test_parallel_work_gives_every_result_and_keeps_the_limit_of_workers() -> None:
    now, most, lock = 0, 0, threading.Lock()
    three = threading.Barrier(3, timeout=60)

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        three.wait()  # none goes on until three are here
        with lock:
            now -= 1
        return number * number

    assert sorted(run_parallel(work, range(12), 3)) == [n * n for n in range(12)]
    assert most == 3
    assert list(run_parallel(work, [], 3)) == []


def test_allocated_workers_use_all_cores_and_not_more() -> None:
    cores = len(os.sched_getaffinity(0))
    at_once, threads = allocate_workers(None)
    assert 1 <= at_once * threads <= cores
    assert at_once <= 4
    assert allocate_workers(1) == (1, cores)
    assert allocate_workers(1000) == (1000, 1)
    assert allocate_workers(None, cores=2) == (2, 1)
    assert allocate_workers(1, cores=3) == (1, 3)


@pytest.mark.parametrize(("limit", "cores"), [("250000 100000", 3), ("1000 100000", 1)])
def test_a_containers_share_of_the_cores_bounds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, cores: int
) -> None:
    file = tmp_path / "cpu.max"
    monkeypatch.setattr(ladder.media.ffmpeg, "_CGROUP_TIME", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert usable_cores() == 8
    for content, found in [("max 100000", 8), (limit, cores), ("900000 100000", 8), ("", 8)]:
        file.write_text(content)
        assert usable_cores() == found


def test_a_process_has_at_most_eight_hd_outputs_and_fewer_of_larger_size() -> None:
    sizes = [(64, 36), (1920, 1080), (1080, 1920), (2560, 1440), (3840, 2160), (7680, 4320), (0, 0)]
    assert [max(map(len, partition_outputs(range(800), size, 99))) for size in sizes] == [
        8,
        8,
        8,
        4,
        2,
        1,
        8,
    ]


def test_parallel_results_come_in_order_of_completion() -> None:
    released = threading.Event()
    results = run_parallel(lambda n: released.wait(60) if n == 0 else n, [0, 1, 2], 2)
    assert sorted([next(results), next(results)]) == [1, 2]
    released.set()
    assert list(results) == [True]


def test_stopping_parallel_work_early_kills_processes_and_starts_no_others(
    fake_ffmpeg: FakeFfmpeg,
) -> None:
    script = fake_ffmpeg("many", body=f'case "$*" in *quick*) exit;; esac; {SLEEPS}')
    ffmpeg = find_ffmpeg(script)
    started = []

    def work(name: str) -> str:
        started.append(name)
        if name == "quick":
            wait_for_pids(script, 2)
        return run(ffmpeg, [name])

    results = run_parallel(work, ["slow", "quick"], 2)
    next(results)
    begun = time.monotonic()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert time.monotonic() - begun < SLEEPS_S / 2
    assert left_running(script) == []
    assert sorted(started) == ["quick", "slow"]


def test_an_error_in_one_parallel_task_stops_the_others(fake_ffmpeg: FakeFfmpeg) -> None:
    script = fake_ffmpeg("one_fails", body=SLEEPS)
    ffmpeg = find_ffmpeg(script)

    def work(name: str) -> str:
        if name == "bad":
            wait_for_pids(script, 2)
            raise RuntimeError("a bug")
        return run(ffmpeg, [name])

    with pytest.raises(RuntimeError, match="a bug"):
        list(run_parallel(work, ["slow", "bad"], 2))
    assert left_running(script) == []


def test_a_task_that_starts_ffmpeg_after_an_early_stop_has_it_killed(
    fake_ffmpeg: FakeFfmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task may count frames before it starts ffmpeg: at the stop it has no process to kill."""
    script = fake_ffmpeg("late", body=f"exec sleep {SLEEPS_S}")
    ffmpeg = find_ffmpeg(script)
    stopped, found = threading.Event(), []

    class Children(_Children):
        def stop(self) -> None:
            super().stop()
            stopped.set()

    def work(name: str) -> str:
        if name == "quick":
            return name
        assert stopped.wait(60)
        try:
            return run(ffmpeg, [name])
        except FfmpegError as error:
            found.append(str(error))
            raise

    monkeypatch.setattr("ladder.media.ffmpeg._Children", Children)
    results = run_parallel(work, ["slow", "quick"], 2)
    next(results)
    begun = time.monotonic()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert time.monotonic() - begun < SLEEPS_S / 2
    assert ["status -9" in error for error in found] == [True]


def test_a_parallel_run_inside_a_task_is_stopped_with_it(fake_ffmpeg: FakeFfmpeg) -> None:
    script = fake_ffmpeg("nested", body=SLEEPS)
    ffmpeg = find_ffmpeg(script)

    def work(name: str) -> str:
        if name == "bad":
            wait_for_pids(script, 4)
            raise RuntimeError("a bug")
        return "".join(run_parallel(lambda part: run(ffmpeg, [part]), ["one", "two"], 2))

    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="a bug"):
        list(run_parallel(work, ["divided", "bad"], 2))
    assert time.monotonic() - begun < SLEEPS_S / 2
    assert left_running(script) == []


def test_a_failed_parallel_run_kills_only_its_own_processes(fake_ffmpeg: FakeFfmpeg) -> None:
    script = fake_ffmpeg("hangs", SLEEPS)

    def sleep(number: int) -> None:
        with pytest.raises(FfmpegError, match="status -9"):
            run(find_ffmpeg(script), [])

    other = threading.Thread(target=lambda: list(run_parallel(sleep, [0], 1)))
    other.start()
    wait_for_pids(script, 2)

    def fail(number: int) -> None:
        raise ValueError("a task of the first run")

    with pytest.raises(ValueError, match="first run"):
        list(run_parallel(fail, [0], 1))
    pids = [int(pid) for pid in Path(f"{script}.pids").read_text().split()]
    running = [_is_running(pid) for pid in pids]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    other.join(60)
    assert running == [True, True]  # the processes of the other run
    assert not other.is_alive()


def test_an_ffmpeg_in_this_folder_is_not_looked_for_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ffmpeg: Ffmpeg
) -> None:
    (tmp_path / "ffmpeg").symlink_to(ffmpeg.path)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    found = find_ffmpeg(Path("ffmpeg"))
    assert found.path == str(tmp_path / "ffmpeg")
    run(found, ["-version"], cwd=tmp_path / "other")
