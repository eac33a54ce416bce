"""`python -m vqatool`, and the program `vqatool`: what is imported here is loaded before a command.

Loading takes a moment, in which an interrupt must end as it does later: a line and exit code 130.
"""

import os
import signal
from types import FrameType

INTERRUPTED = 130  # as `vqatool.errors.ExitCode`, which is not loaded yet


def main() -> None:
    """Load the command line and run it."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:  # else the interrupt is ignored, as behind nohup
        signal.signal(signal.SIGINT, _end)
    from vqatool.cli import cli

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli(prog_name="vqatool")


def _end(_number: int, _frame: FrameType | None) -> None:
    # at once: an exception would be lost in the import of a module that is not written in Python
    os.write(2, b"Error: interrupted: run the same command again to continue\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
