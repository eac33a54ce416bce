"""What a process keeps of the memory that it has freed."""

import ctypes
import subprocess
import sys

import pytest

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
