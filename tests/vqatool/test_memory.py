"""What a process keeps of the memory that it has freed."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from vqatool.inputs.decode_pool import DecodePool

PAGE_FAULTS = """
import resource
import sys
import numpy as np
from vqatool.memory import return_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(3_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "returned":
    return_freed_memory()
print([faults() for _ in range(3)][-1])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="of glibc alone")
def test_freed_memory_is_returned_where_it_was_kept() -> None:
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", PAGE_FAULTS, way], capture_output=True,
                           check=True).stdout)
        for way in ("kept", "returned")
    )  # fmt: skip
    assert kept < returned / 10


_STAYS: list[bytes] = []


def _resident_mb(_: Path) -> float:
    """Resident memory of the worker, which then frees 100 MB below something that stays."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    resident_kb = next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)
    pieces = [b"x" * 2**20 for _ in range(100)]
    _STAYS.append(b"x" * 2**20)
    del pieces
    return resident_kb / 1024


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="of glibc alone")
def test_a_worker_returns_what_a_video_took_before_the_next_one(tmp_path: Path) -> None:
    with DecodePool(jobs=1) as pool:
        before, after = (pool.submit(tmp_path, _resident_mb).result() for _ in range(2))
    assert isinstance(before, float)
    assert isinstance(after, float)
    assert after < before + 20
