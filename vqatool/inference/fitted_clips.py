"""What the figure network of a model was fitted to, kept in its file for later fits.

A network that is fitted to new clips alone forgets old ones ("Catastrophic Interference in
Connectionist Networks", McCloskey and Cohen 1989), and their videos may be gone by then. A clip is
less than 100 numbers here, so all are kept and learned again beside the new ones ("Catastrophic
Forgetting, Rehearsal and Pseudorehearsal", Robins 1995).

Shapes: N clips, U figures and components of deep features in deviations from their means.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_MAX_ROUNDING = 0.05  # deviations that half precision may move an encode by


@dataclass(frozen=True, eq=False)
class FittedClips:
    """Clips as `FigureNetwork.units` gives them, with their labels.

    Attributes:
        unit_NU: figures and components, float32, in a file float16.
        label_N: labels on the scale of scores divided by 100, float32.
        twice_N: 1 where a clip was coded twice, else 0, float32.
    """

    unit_NU: Tensor
    label_N: Tensor
    twice_N: Tensor

    def __len__(self) -> int:
        return len(self.label_N)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The clips whose `tensors` these are.

        Raises:
            TypeError: a tensor is missing, or has an unknown name.
            ValueError: the tensors are of different numbers of clips.
        """
        clips = cls(**{name: value.float() for name, value in tensors.items()})
        if clips.unit_NU.ndim != 2 or {len(clips.unit_NU), len(clips.twice_N)} != {len(clips)}:
            raise ValueError("the clips of the fit have different numbers of figures and labels")
        return clips

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a model file."""
        return {
            "unit_NU": self.unit_NU.half().cpu(),
            "label_N": self.label_N.float().cpu(),
            "twice_N": self.twice_N.bool().cpu(),
        }

    def sampled(self, max_clips: int) -> Self:
        """These clips, or `max_clips` of them at random, in their order."""
        if len(self) <= max_clips:
            return self
        return self._taken(
            torch.randperm(len(self))[:max_clips].sort().values.to(self.label_N.device)
        )

    def joined(self, more: Self) -> Self:
        """These clips, without those that are among `more`, and then more."""
        nearest_N = torch.cdist(self.unit_NU, more.unit_NU).amin(1)
        kept = self._taken((nearest_N > _MAX_ROUNDING).nonzero().flatten())
        return type(self)(
            torch.cat([kept.unit_NU, more.unit_NU]),
            torch.cat([kept.label_N, more.label_N]),
            torch.cat([kept.twice_N, more.twice_N]),
        )

    def _taken(self, index: Tensor) -> Self:
        return type(self)(self.unit_NU[index], self.label_N[index], self.twice_N[index])
