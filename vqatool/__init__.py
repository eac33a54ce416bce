"""No-reference video quality, from bitrate ladders to scores.

    source --ladder--> encodes --label--> labels --train--> model --score--> report

`vqatool.score` and `vqatool.Scorer` score videos for other programs; the commands do the rest. Each
stage writes one CSV file, and a repeated run does only what is missing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqatool.scorer import Report, Scorer, score

# torch's threads wait for each other by spinning, which takes the cores from the processes that
# decode. OpenMP reads this when torch is loaded, and every entry imports this package first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = ["Report", "Scorer", "score"]


def __getattr__(name: str) -> Any:
    # loaded when it is used: the program sees to interrupts before it loads anything
    if name != "scorer" and name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    scorer = importlib.import_module("vqatool.scorer")
    return scorer if name == "scorer" else getattr(scorer, name)
