"""What can go wrong with video files and ffmpeg, one class for each case a caller may act on.

LadderError
├── CapabilityError      ffmpeg, an encoder or a VMAF model is missing: install it
├── FfmpegError          ffmpeg ran and failed, or ran out of time
├── VideoError           a file cannot be read as video
├── LadderFileError      a ladder's name or file is not valid
├── ListError            a list of files cannot be read
├── LockedError          another run writes the same files: wait for it to end
├── OutputError          a file or folder cannot be written
├── TableError           a table is of another program, or of another version
└── VmafError            VMAF ran but its result cannot be trusted
"""

from pathlib import Path


class LadderError(Exception):
    """Base of every error this package raises on purpose; `code` is its name in tables."""

    code = "failed"


class CapabilityError(LadderError):
    """Something has to be installed first; the message says what and how."""

    code = "capability"


class FfmpegError(LadderError):
    """ffmpeg exited with an error or ran out of time; the message holds its command.

    `stderr` is all it wrote to stderr.
    """

    code = "ffmpeg"

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class VideoError(LadderError):
    """A file cannot be read as video.

    `code` tells why: `missing`, `empty`, `not_video` (no container that FFmpeg knows), `no_stream`
    (a container without a picture, such as audio alone), `no_decoder` (a codec that FFmpeg does not
    know), `damaged` (decoding failed).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LadderFileError(LadderError):
    """A ladder has no such name, or its file breaks a rule; the message names key and values."""

    code = "ladder"


class ListError(LadderError):
    """A list of files to look at cannot be read."""

    code = "list"


class LockedError(LadderError):
    """Another run holds the lock of a folder or a file; the message says which."""

    code = "locked"


class OutputError(LadderError):
    """A file cannot be written; the message names the path and the system's reason."""

    code = "output"

    @classmethod
    def of(cls, path: Path, error: OSError) -> "OutputError":
        """The error for a failed write of `path`."""
        reason = error.strerror or str(error)
        return cls(f"{path} cannot be written ({reason}): free space or name another place")


class TableError(LadderError):
    """A CSV does not have the columns this version writes."""

    code = "table"


class VmafError(LadderError):
    """VMAF ran, but its log is empty or holds something that is not a number."""

    code = "vmaf"
