"""Workers that crash, hang or run out of memory: each costs one result, and the others go on."""

import contextlib
import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
from pebble.pool.process import PoolManager

from ladder.errors import VideoError
from tests.vqatool.faults import hang
from vqatool.inputs import decode_pool
from vqatool.inputs.decode_pool import (
    DecodeFailure,
    DecodePool,
    PendingDecode,
    decode_one,
    failure_of,
    start_server,
)

FAULTS = ("crash", "exit", "hang", "memory", "allocator", "fault", "damaged", "kill")
CODES = (
    "crashed", "crashed", "timeout", "out_of_memory", "out_of_memory", "internal", "damaged",
    "crashed",
)  # fmt: skip


SIGNALS = {"crash": signal.SIGSEGV, "kill": signal.SIGKILL}


def graph_of_4_pib() -> bytes:
    """A model file that asks ONNX Runtime, whose allocator is its own, for an array of 4 PiB."""
    from onnx import TensorProto, helper

    length = helper.make_tensor("length", TensorProto.INT64, [1], [1 << 50])
    zeros = helper.make_tensor_value_info("zeros", TensorProto.FLOAT, [None])
    node = helper.make_node("ConstantOfShape", ["length"], ["zeros"])
    graph = helper.make_graph([node], "zeros", [], [zeros], [length])
    opset = helper.make_opsetid("", 20)
    data: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()
    return data


def too_much_for_onnxruntime(model: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {})


def too_much_for_torch(model: Path) -> None:
    import torch

    torch.empty(1 << 50)


def too_much_for_numpy(model: Path) -> None:
    np.empty(1 << 50)


def faulty(path: Path, *more: int) -> tuple[str, int]:
    """The name and the sum of what follows, unless the name is that of a fault."""
    if path.name in SIGNALS:
        os.kill(os.getpid(), SIGNALS[path.name])
    match path.name:
        case "exit":
            os._exit(3)
        case "hang":
            hang(path.parent / "marks")
        case "memory":
            bytearray(1 << 60)
        case "allocator":
            too_much_for_onnxruntime(path)
        case "fault":
            raise AttributeError("a fault")
        case "damaged":
            raise VideoError("damaged", f"{path} is damaged")
    return path.name, sum(more)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.usefixtures("marks")
def test_each_fault_is_the_failure_of_its_file(in_order: bool, tmp_path: Path) -> None:
    (tmp_path / "allocator").write_bytes(graph_of_4_pib())
    names = [name for fault in FAULTS for name in ("good", fault)]
    with DecodePool(jobs=2, timeout_s=0.2) as pool:
        found = list(
            pool.map(
                names, lambda name: pool.submit(tmp_path / name, faulty, 1, 2), in_order=in_order
            )
        )
    if in_order:
        assert [name for name, _ in found] == names
    results = dict(found)
    assert results["good"] == ("good", 3)
    assert len(found) == len(names)
    failures = [result for name in FAULTS if isinstance(result := results[name], DecodeFailure)]
    assert [(failure.path.name, failure.code) for failure in failures] == list(
        zip(FAULTS, CODES, strict=True)
    )
    assert all(failure.path.name in failure.reason for failure in failures)
    assert "SIGSEGV" in failures[0].reason
    assert "exit status" in failures[1].reason
    assert "took over 0.2 s" in failures[2].reason
    assert "AttributeError('a fault')" in failures[5].reason
    assert "lack of memory" in failures[7].reason


@pytest.mark.parametrize("num_breaks", [1, 9])
def test_a_pool_that_breaks_costs_the_file_that_broke_it_alone(
    num_breaks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as pebble does where a worker dies before it has told its task: seen on a busy machine
    breaks = iter(range(num_breaks))
    find = PoolManager.find_expired_task

    def breaking(manager: PoolManager, worker_id: int) -> object:
        if next(breaks, None) is not None:
            raise BrokenProcessPool("All workers expired")
        return find(manager, worker_id)

    monkeypatch.setattr(PoolManager, "find_expired_task", breaking)
    names = ["good", "crash", "better", "best"]
    with DecodePool(jobs=1, timeout_s=10) as pool:
        found = dict(pool.map(names, lambda name: pool.submit(tmp_path / name, faulty, 1, 2)))
    crash = found.pop("crash")
    assert found == {name: (name, 3) for name in ("good", "better", "best")}
    assert isinstance(crash, DecodeFailure)
    assert crash.code == "crashed"
    assert ("SIGSEGV" if num_breaks == 1 else "3 times") in crash.reason


@pytest.mark.parametrize("ask", [too_much_for_numpy, too_much_for_onnxruntime, too_much_for_torch])
def test_every_allocator_that_fails_is_out_of_memory(
    ask: Callable[[Path], None], tmp_path: Path
) -> None:
    model = tmp_path / "large.onnx"
    model.write_bytes(graph_of_4_pib())
    with pytest.raises(Exception, match=r"(?i)allocate") as caught:
        ask(model)
    assert isinstance(caught.value, Exception)
    failure = failure_of(Path("large.mp4"), caught.value)
    assert failure.code == "out_of_memory"
    assert "large.mp4" in failure.reason


def test_a_network_that_does_not_fit_into_memory_is_out_of_memory() -> None:
    message = "[ONNXRuntimeError] : 6 : Exception during initialization: std::bad_alloc"
    assert failure_of(Path("any"), RuntimeError(message)).code == "out_of_memory"


def data_limit(path: Path) -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="no other system enforces the limit")
def test_a_worker_may_not_take_all_memory() -> None:
    limit = decode_one(Path("any"), data_limit)
    assert isinstance(limit, int)
    assert 0 < limit <= max(4 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    assert data_limit(Path()) != limit  # the program has none of its own
    with DecodePool(cores=1) as pool:
        assert (pool.num_workers, pool.num_threads) == (1, 1)
        shared = pool.submit(Path("any"), data_limit).result()
    assert isinstance(shared, int)
    assert shared <= limit  # pools on the other cores have their shares


def test_every_core_has_a_worker_where_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "_memory_bytes", lambda: 10 << 30)
    counts = []
    for cores in (1, 3, 8, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores))
        with DecodePool(limits_memory=False) as pool:
            counts.append((pool.num_workers, pool.num_threads))
    assert counts == [(1, 1), (3, 1), (8, 1), (10, 6)]
    monkeypatch.setattr(decode_pool, "_memory_bytes", lambda: 2 << 30)
    with DecodePool(limits_memory=False) as pool:
        assert pool.num_workers == 4


def when_met(path: Path) -> int:
    """Wait until two processes have left their mark in a folder."""
    (path / str(os.getpid())).touch()
    while len(list(path.iterdir())) < 2:
        time.sleep(0.01)
    return os.getpid()


def test_as_many_files_are_decoded_at_once_as_there_are_jobs(tmp_path: Path) -> None:
    with DecodePool(jobs=2, timeout_s=20) as pool:
        tasks = [pool.submit(tmp_path, when_met) for _ in range(2)]
        assert len({task.result() for task in tasks}) == 2


def test_only_a_few_tasks_are_submitted_ahead() -> None:
    submitted: list[int] = []
    with DecodePool(jobs=2, timeout_s=20) as pool:

        def submit(number: int) -> PendingDecode[tuple[str, int]]:
            submitted.append(number)
            return pool.submit(Path("good"), faulty, number)

        with contextlib.closing(pool.map(range(1000), submit)) as results:
            for number, (_, result) in zip(range(5), results, strict=False):
                assert result == ("good", number)
                assert len(submitted) <= number + 5


def test_pools_leave_no_process_behind() -> None:
    import psutil

    assert decode_one(Path("good"), faulty) == ("good", 0)
    there = set(psutil.Process().children(recursive=True))  # the server waits for the next pool
    with DecodePool(jobs=2) as pool:
        assert pool.submit(Path("good"), faulty).result() == ("good", 0)
        workers = set(psutil.Process().children(recursive=True)) - there
        assert workers
    assert psutil.wait_procs(workers, timeout=60)[1] == []


PAGE_FAULTS = """
import ctypes, resource
import numpy as np
from vqatool.inputs.decode_pool import _prepare_worker

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1_000_000)  # somewhat more than a frame of 1080 lines
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

_prepare_worker(8 << 30, {})
print(faults(), faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="of glibc alone")
def test_memory_of_one_task_is_there_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", PAGE_FAULTS], capture_output=True, check=True)
    first, second = map(int, done.stdout.split())
    assert second < first / 10


@pytest.mark.parametrize(
    ("error", "code"),
    [(IndexError(), "unreadable"), (ZeroDivisionError(), "unreadable"), (KeyError(), "internal")],
)
def test_only_what_damage_causes_in_pyav_is_a_fault_of_the_file(
    error: Exception, code: str
) -> None:
    assert failure_of(Path("a.ts"), error).code == code


TASKS = """
import os
import sys

def loaded(path, *names):
    return [name for name in names if name in sys.modules]

def threads(path):
    return os.environ.get("OPENBLAS_NUM_THREADS")
"""
LOADED = """
from pathlib import Path
from tasks import loaded
from vqatool.inputs.decode_pool import DecodePool

with DecodePool(jobs=1, timeout_s=60, preloaded=["colorsys"]) as pool:
    names = "torch", "numpy", "av", "vqatool.inputs.preprocessor", "colorsys"
    print(*pool.submit(Path("any"), loaded, *names).result())
"""
THREADS = """
import os
from pathlib import Path
from tasks import threads
from vqatool.inputs.decode_pool import decode_one

print(decode_one(Path("x"), threads), os.environ.get("OPENBLAS_NUM_THREADS"))
"""


def output_of(folder: Path, script: str) -> list[str]:
    """What a script prints that has its tasks in a module beside it."""
    (folder / "tasks.py").write_text(TASKS)
    (folder / "script.py").write_text(script)
    here = {**os.environ, "OPENBLAS_NUM_THREADS": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(folder / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=here, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_workers_have_what_they_need_and_what_is_preloaded_but_no_torch(tmp_path: Path) -> None:
    assert output_of(tmp_path, LOADED) == [
        "numpy", "av", "vqatool.inputs.preprocessor", "colorsys",
    ]  # fmt: skip


def test_workers_do_not_run_the_main_script(tmp_path: Path) -> None:
    # a script without a guard, which `multiprocessing` would run again in each worker
    assert output_of(tmp_path, f"print('run')\n{LOADED}").count("run") == 1
    assert __import__("sys").modules["__main__"].__name__ == "__main__"


def log_and_add(path: Path, a: int, b: int) -> int:
    logging.getLogger("ladder.media.x").info("adding %s", {"a": a})
    logging.getLogger("vqatool.x").debug("a detail")
    return a + b


def test_what_workers_log_is_logged_by_the_program(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ladder"), DecodePool(jobs=1, timeout_s=60) as pool:
        assert pool.submit(Path("x"), log_and_add, 1, 2).result() == 3
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("ladder.media.x", "adding {'a': 1}")
    ]
    caplog.clear()
    with DecodePool(jobs=1, timeout_s=60) as pool:
        assert pool.submit(Path("x"), log_and_add, 1, 2).result() == 3
    assert not caplog.records


@pytest.mark.parametrize(
    ("levels", "logged"),
    [
        ({"ladder": logging.INFO, "vqatool": logging.DEBUG}, ["ladder.media.x", "vqatool.x"]),
        ({"ladder": logging.WARNING, "vqatool": logging.DEBUG}, ["vqatool.x"]),
        ({"ladder": logging.DEBUG, "vqatool": logging.WARNING}, ["ladder.media.x"]),
    ],
)
def test_each_logger_of_a_worker_has_its_own_level(
    caplog: pytest.LogCaptureFixture, levels: dict[str, int], logged: list[str]
) -> None:
    for name, level in levels.items():
        caplog.set_level(level, name)
    caplog.handler.setLevel(logging.DEBUG)
    with DecodePool(jobs=1, timeout_s=60) as pool:
        assert pool.submit(Path("x"), log_and_add, 1, 2).result() == 3
    assert [record.name for record in caplog.records] == logged


def test_libraries_of_workers_have_one_thread_and_those_of_the_program_as_before(
    tmp_path: Path,
) -> None:
    assert output_of(tmp_path, THREADS) == ["1", "7"]


def test_a_link_that_leads_to_itself_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "circle.mp4"
    path.symlink_to(path)
    with pytest.raises(OSError, match="Too many levels") as caught:
        path.stat()
    failure = failure_of(path, caught.value)
    assert (failure.code, failure.reason) == ("missing", f"{path} is a link that leads to itself")


def test_two_threads_that_start_the_server_leave_the_environment_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first_is_in, second_is_in, first_is_done = (threading.Event() for _ in range(3))

    def ensure_running() -> None:
        if not first_is_in.is_set():
            first_is_in.set()
            second_is_in.wait(0.3)
        else:
            second_is_in.set()
            first_is_done.wait(0.3)

    def start_first() -> None:
        start_server()
        first_is_done.set()

    monkeypatch.setattr(forkserver, "ensure_running", ensure_running)
    threads = [threading.Thread(target=start_first), threading.Thread(target=start_server)]
    threads[0].start()
    assert first_is_in.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert "OMP_NUM_THREADS" not in os.environ
