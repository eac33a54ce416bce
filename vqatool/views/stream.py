"""What the stream says of its own coding, as one vector beside the pixels."""

import torch
from torch import Tensor

from vqatool.clips import Clip


def stream_vector(clip: Clip, *, generator: torch.Generator | None = None) -> Tensor:
    """The clip's `StreamFacts` as (F,) float32; there is no chance in it."""
    return torch.tensor(clip.stream, dtype=torch.float32)
