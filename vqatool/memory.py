"""How much freed memory a process keeps, where the C library is glibc; others decide themselves."""

import contextlib
import ctypes

# parameters of glibc's mallopt, from malloc.h
_MMAP_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -4, -3, -1
_FRAMES_BYTES, _MAPS_BYTES = 16 * 2**20, 4 * 2**20


def keep_freed_frames() -> None:
    """Keep enough freed memory for the next frames: for processes that decode.

    glibc would return each frame to the system, and getting it back page by page takes a quarter of
    the decoding time.
    """
    _adjust({_MMAP_MAX: 0, _TRIM_THRESHOLD: _FRAMES_BYTES})


def return_freed_memory() -> None:
    """Return freed memory to the system soon: for the process that runs a model.

    glibc would keep 40 MB between two clips of the packaged model. What is as small as most maps of
    features is kept: else each of them is got back from the system page by page, which takes a
    fifth of the model's time.
    """
    # where one of the two is set, glibc no longer adjusts the other, and takes 128 KiB
    _adjust({_TRIM_THRESHOLD: _MAPS_BYTES, _MMAP_THRESHOLD: _MAPS_BYTES})


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
