"""What can go wrong outside of video files, one class for each case a caller may act on.

VqatoolError
├── CheckpointError      a model file is missing, broken or of another method
├── TrainingDataError    too few labelled sources or rungs to learn or judge from
└── ReportError          a report cannot be continued with what was asked for
"""


class VqatoolError(Exception):
    """Base of every error this package raises on purpose."""


class CheckpointError(VqatoolError):
    """A model file is missing, broken, or not one of this program's."""


class TrainingDataError(VqatoolError):
    """The labels given cannot be trained on or judged by; the message says what to add."""


class ReportError(VqatoolError):
    """A report file exists and holds something else than the run would continue."""
