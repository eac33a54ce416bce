"""How much freed memory a process keeps, where the C library is glibc; others decide themselves."""

import contextlib
import ctypes

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # parameters of glibc's mallopt, from malloc.h
_FRAMES_BYTES, _LITTLE_BYTES = 16 * 2**20, 2**20


def keep_freed_frames() -> None:
    """Keep enough freed memory for the next frames: for processes that decode.

    glibc would return each frame to the system, and getting it back page by page takes a quarter of
    the decoding time.
    """
    _adjust({_MMAP_MAX: 0, _TRIM_THRESHOLD: _FRAMES_BYTES})


def return_freed_memory() -> None:
    """Return freed memory to the system soon: for the process that runs a model.

    glibc would keep 40 MB between two clips of the packaged model. It costs a twentieth of the
    processor time of a score.
    """
    _adjust({_TRIM_THRESHOLD: _LITTLE_BYTES})


def trim_memory() -> None:
    """Return all freed memory to the system now: between two videos.

    What a worker keeps for the next frame would else add to what that video's own first ones take.
    """
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def _adjust(parameters: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in parameters.items():
            mallopt(parameter, value)
