"""Errors of this package: one class for each case that a caller can handle.

LadderError
├── CapabilityError      ffmpeg, an encoder or a VMAF model is missing: install it
├── CurveError           points of rate and quality give no curve, or two curves do not overlap
├── FfmpegError          ffmpeg failed or reached its time limit
├── VideoError           a file cannot be read as video
├── LadderFileError      the name or the file of a ladder is not valid
├── ListError            a list of files cannot be read
├── LockedError          another run writes the same files: wait for it to end
├── OutputError          a file or folder cannot be written
├── RemoteError          a URL cannot be read or written
├── TableError           another program or another version wrote a table
└── VmafError            VMAF ran but its result is not valid
"""

from pathlib import Path


class LadderError(Exception):
    """Base class of the errors of this package; tables store `code`."""

    code = "failed"


class CapabilityError(LadderError):
    """Something must be installed; the message names it and how to install it."""

    code = "capability"


class CurveError(LadderError):
    """Points of rate and quality give no curve, or no comparison; the message has their ranges."""

    code = "curve"


class FfmpegError(LadderError):
    """ffmpeg exited with an error or reached its time limit; the message has the command.

    `stderr` is all that ffmpeg wrote to stderr.
    """

    code = "ffmpeg"

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class VideoError(LadderError):
    """A file cannot be read as video.

    `code` is the cause: `missing`, `empty`, `not_video` (not a container that FFmpeg can open),
    `no_stream` (a container without video, such as audio only), `no_decoder` (a codec that FFmpeg
    cannot decode), `damaged` (decoding failed), `unreadable` (the system refuses to read it).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LadderFileError(LadderError):
    """No ladder has this name, or its file is not valid; the message names key and values."""

    code = "ladder"


class ListError(LadderError):
    """A list of input files cannot be read."""

    code = "list"


class LockedError(LadderError):
    """Another run holds the lock of a folder or a file; the message names it."""

    code = "locked"


class OutputError(LadderError):
    """A file cannot be written; the message has the path and the reason from the system."""

    code = "output"

    @classmethod
    def of(cls, path: Path, error: OSError) -> "OutputError":
        """The OutputError for `error`, raised while writing `path`."""
        reason = error.strerror or str(error)
        return cls(f"{path} cannot be written ({reason}): free space or name another place")


class RemoteError(LadderError):
    """A store or a server does not give or take a file; the message has no key and no signature.

    `is_for_all`: nothing else of the same store can be had either, such as with wrong credentials.
    """

    code = "remote"

    def __init__(self, message: str, *, is_for_all: bool = False) -> None:
        super().__init__(message)
        self.is_for_all = is_for_all


class TableError(LadderError):
    """A CSV has other columns than this version writes, or an invalid cell."""

    code = "table"


class VmafError(LadderError):
    """VMAF ran, but its log is empty or has a value that is not a number."""

    code = "vmaf"
