"""The published methods by name; no torch here, so that `--help` is instant."""

from enum import Enum


class Method(Enum):
    """A published method; its value is its name on the command line and in model files."""

    COARSE_TO_FINE = "coarse-to-fine"
    SAMA = "sama"
    ZOOM_VQA = "zoom-vqa"
    Q_MAMBA = "q-mamba"
    INTERN_VQA = "intern-vqa"

    @property
    def paper(self) -> str:
        """arXiv number of the paper that the method is built from."""
        return {
            Method.COARSE_TO_FINE: "2401.08522",
            Method.SAMA: "2401.02614",
            Method.ZOOM_VQA: "2304.06440",
            Method.Q_MAMBA: "2406.09546",
            Method.INTERN_VQA: "2502.19026",
        }[self]
