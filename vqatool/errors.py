"""What can go wrong outside of video files, and how the program exits.

VqatoolError
├── CheckpointError      a model file is missing, broken or of another method
├── TrainingDataError    too few labelled sources or rungs to train or evaluate
├── NoVideoError         nothing that was given exists, or there is no video in it
├── ReportError          a report cannot be continued with the arguments given
├── GateError            a file of thresholds cannot be read
├── ConfigError          a file of defaults cannot be read
├── ClusterError         a cluster cannot be reached, or its workers cannot do the work
└── OutputNameError      a file to write exists and is of another program
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """How `vqatool` exits, for scripts that call it."""

    DONE = 0
    BUG = 1
    """An error that this program did not expect."""
    USAGE = 2
    """An argument, an input file or an output path cannot be used."""
    GATE_FAILED = 3
    """A video does not pass the gate, such as `score --fail-under`."""
    SOME_FAILED = 4
    """All is done but some inputs, which the rows name."""
    NO_VIDEO = 5
    """No video was found."""
    NO_CAPABILITY = 6
    """ffmpeg, an encoder, a VMAF model or a package is missing."""
    GATE_AND_SOME_FAILED = 7
    """Both 3 and 4."""
    INTERRUPTED = 130
    """Ctrl-C; the same command continues, or begins anew where it keeps nothing."""


class VqatoolError(Exception):
    """Base of every error this package raises on purpose."""


class CheckpointError(VqatoolError):
    """A model file is missing, broken, or not one of this program's."""


class TrainingDataError(VqatoolError):
    """The labels cannot be used to train or evaluate; the message names what to add."""


class NoVideoError(VqatoolError):
    """Nothing that was given exists, or there is no video in it; the message names it."""


class ReportError(VqatoolError):
    """A report file exists and holds something other than this run would continue."""


class GateError(VqatoolError):
    """A file of thresholds cannot be read, or has a key or a value that it may not have."""


class ConfigError(VqatoolError):
    """A file of defaults cannot be read, or names a command or an option that there is not."""


class ClusterError(VqatoolError):
    """A cluster cannot be reached, or its workers cannot do the work; the message says why."""


class OutputNameError(VqatoolError):
    """A file to write exists and this program did not write it."""
