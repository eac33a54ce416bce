"""A shape of each method that is small enough to try things on."""

from typing import Any

from vqatool.methods import Method

SMALL: dict[Method, dict[str, Any]] = {
    Method.COARSE_TO_FINE: {"grid": 2, "features": 32},
    Method.SAMA: {"grid": 2},
    Method.ZOOM_VQA: {"grid": 2, "crop_px": 64, "still_short_px": 90, "run_short_px": 96},
    Method.Q_MAMBA: {"patch": 64},
    Method.INTERN_VQA: {"grid": 2},
}
SMALL = {method: {"size": "pico", **shape} for method, shape in SMALL.items()}
