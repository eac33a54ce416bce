"""The published methods by name; no torch here, so that `--help` is instant."""

from enum import Enum


class Method(Enum):
    """A published method; its value is its name on the command line and in model files."""

    COARSE_TO_FINE = "coarse-to-fine"

    @property
    def paper(self) -> str:
        """arXiv number of the paper that the method is built from."""
        return {Method.COARSE_TO_FINE: "2401.08522"}[self]
