"""The server that processes are forked from; it loads torch while its user does, and only once."""

import multiprocessing
from multiprocessing import forkserver

_PRELOADED = "vqatool.scoring.decode_pool"


def start_server() -> None:
    """Start the server if there is none; the sooner the better, for it takes as long as torch."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOADED])
    forkserver.ensure_running()
