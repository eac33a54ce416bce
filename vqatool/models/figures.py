"""Small networks on figures of a whole clip, whose score joins that of the frames; ours.

Figures of the bitstream, of motion and of probing tell more of an encode that was coded once than
a network learns from the pixels of a few hundred contents; ITU-T P.1204.3 puts a forest on such
figures in the same way. They lie where a coarse encode was coded finely again, and are missing
where headers cannot be read: there deep features of the pixels tell more. So there are two
networks, and one that says which to believe: a mixture of experts ("Adaptive Mixtures of Local
Experts", Jacobs et al. 1991). They have their own fit after the training
(`vqatool.training.figures`), because they need many epochs, and pixels are learned by heart in as
many.

Shapes: B clips, F figures, of which the first S are the bitstream's; E deep features; K components,
or figures that tell an expected error.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vqatool.models.quality import NO_FIGURES, in_float32

_WIDTH, _GATE_WIDTH, _DROPOUT = 128, 64, 0.3
_NUM_COMPONENTS = 20
# of a component: smaller ones are noise, and the basis stays in the range of half precision
_MIN_DEVIATION = 0.05
_LARGEST_UNIT = 4.0  # deviations from the mean; what lies further out counts as that
_TYPICAL_SCORE, _TYPICAL_LOGIT = 0.7, -1.0  # where a fit starts
_NEVER = -20.0  # logit of no chance
_LOG_SPREAD = (-5.0, -0.5)  # 0.7 to 60 points
_SPREAD_FIGURES = 6


class FigureScores(NamedTuple):
    """Scores (B,), about 0 to 1, and how far to doubt the bitstream."""

    figures_B: Tensor  # by figures alone
    hidden_B: Tensor  # by figures and deep features, without the bitstream
    doubt_B: Tensor  # logit of the share of the second where the bitstream is known

    @property
    def known_B(self) -> Tensor:
        """The score where the bitstream is known."""
        return torch.lerp(self.figures_B, self.hidden_B, self.doubt_B.sigmoid())


class FigureNetwork(nn.Module):
    """Figures (B, F) and deep features (B, E) -> a score of each clip; fitted by itself.

    `share` are the weights of its two scores in means with the score of the frames; 0 until they
    are fitted, and for the second without deep features. Those are reduced to their K first
    principal components. `spread` are weights of what tells how far a score may be off, with the
    bitstream and without; 0 until they are fitted.

    Args:
        figures: F.
        stream: S.
        deep: E; 0: there are none.
        last: how many of the figures, the last ones, a network to start from may lack.
    """

    def __init__(self, figures: int, stream: int, deep: int, last: int = 0) -> None:
        super().__init__()
        self._stream, self._has_deep, self._last = stream, deep > 0, last
        components = min(deep, _NUM_COMPONENTS)
        self.register_buffer("mean", torch.zeros(figures))
        self.register_buffer("deviation", torch.ones(figures))
        self.register_buffer("deep_mean", torch.zeros(deep))
        self.register_buffer("basis", torch.zeros(deep, components))
        self.register_buffer("share", torch.zeros(2))
        self.register_buffer("spread", torch.zeros(2, _SPREAD_FIGURES))
        self._by_figures = _layers(figures, _WIDTH, _TYPICAL_SCORE).requires_grad_(False)
        if not self._has_deep:
            return
        self._without_stream = _layers(figures - stream + components, _WIDTH, _TYPICAL_SCORE)
        self._doubt = _layers(figures + components, _GATE_WIDTH, _TYPICAL_LOGIT)
        self.requires_grad_(False)

    @property
    def is_fitted(self) -> bool:
        """Whether any of its scores counts."""
        return bool(self.get_buffer("share").abs().sum() > 0)

    def standardise(self, figures_NF: Tensor, deep_NE: Tensor) -> None:
        """Take means, deviations and components from the clips of a training."""
        self.get_buffer("mean").copy_(figures_NF.mean(0))
        # a figure that never varied stays finite
        self.get_buffer("deviation").copy_(figures_NF.std(0, unbiased=False) + 1e-3)
        if not self._has_deep:
            return
        mean_E, deviation_E = deep_NE.mean(0), deep_NE.std(0, unbiased=False) + 1e-3
        # on the CPU: not every device has double precision
        unit_NE = ((deep_NE - mean_E) / deviation_E).double().cpu()
        basis_EK = torch.linalg.svd(unit_NE, full_matrices=False).Vh.T
        basis_EK = basis_EK[:, : self.get_buffer("basis").shape[1]]
        deviation_K = (unit_NE @ basis_EK).std(0, unbiased=False)
        scale_K = torch.where(deviation_K > _MIN_DEVIATION, 1 / deviation_K, 0)
        self.get_buffer("deep_mean").copy_(mean_E)
        basis_EK = basis_EK * scale_K / deviation_E[:, None].cpu()
        self.get_buffer("basis").zero_()[:, : basis_EK.shape[1]] = basis_EK.float()

    def start_from(self, start: "FigureNetwork", left_out: slice = NO_FIGURES) -> bool:
        """Take over a fitted network that takes the same figures, perhaps without the last ones.

        Those count nothing then until they are fitted, and keep their means and deviations here.

        Args:
            start: the network.
            left_out: figures of its that this one does not take: as if they were always at their
                means.

        Returns:
            Whether it is one.
        """
        own = self.state_dict()
        device = own["share"].device
        known = {name: value.to(device) for name, value in start.state_dict().items()}
        for name in known:
            if name in ("mean", "deviation") or name.endswith(".0.weight"):
                first = start._stream * name.startswith("_without_stream")
                known[name] = _without(known[name], left_out, first)
        count, more = len(known["mean"]), len(own["mean"]) - len(known["mean"])
        is_one = start.is_fitted and more in (0, self._last) and start._stream == self._stream
        if not is_one or own.keys() != known.keys() or own["basis"].shape != known["basis"].shape:
            return False
        for name in ("mean", "deviation"):
            known[name] = torch.cat([known[name], own[name][count:]])
        for name in known:
            if name.endswith(".0.weight"):
                place = count - self._stream * name.startswith("_without_stream")
                before, after = known[name][:, :place], known[name][:, place:]
                nothing = before.new_zeros(len(before), more)
                known[name] = torch.cat([before, nothing, after], dim=1)
        self.load_state_dict(known)
        return True

    def tuned_layers(self, start: "FigureNetwork") -> list[nn.Module]:
        """What a fit that goes on from `start` changes: all but the network on deep features.

        That one learns from pictures, and forgets those of contents that are not learned again. It
        changes as well if `start` takes other figures.
        """
        is_same = len(start.get_buffer("mean")) == len(self.get_buffer("mean"))
        return [self._by_figures, self._doubt] if self._has_deep and is_same else [self]

    def units(self, figures_BF: Tensor, deep_BE: Tensor) -> Tensor:
        """Figures and components in deviations from their means, (B, F + K) float32."""
        figures_BF = (figures_BF.float() - self.get_buffer("mean")) / self.get_buffer("deviation")
        components_BK = in_float32(self._components, deep_BE)
        both = torch.cat([figures_BF, components_BK], dim=1)
        return both.clamp(-_LARGEST_UNIT, _LARGEST_UNIT)

    def _components(self, deep_BE: Tensor) -> Tensor:
        return (deep_BE - self.get_buffer("deep_mean")) @ self.get_buffer("basis")

    def scores(self, unit_BU: Tensor) -> FigureScores:
        """The scores of what `units` gives; without deep features there is one for all."""
        figures_B = _one_value(self._by_figures, unit_BU[:, : len(self.get_buffer("mean"))])
        if not self._has_deep:
            never_B = torch.full_like(figures_B, _NEVER)
            return FigureScores(figures_B, figures_B, never_B)
        return FigureScores(
            figures_B,
            _one_value(self._without_stream, unit_BU[:, self._stream :]),
            _one_value(self._doubt, unit_BU),
        )

    def correction(
        self,
        figures_BF: Tensor,
        deep_BE: Tensor,
        is_known_B: Tensor,
        score_B: Tensor,
        spread_B: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B,) what is to be added to the scores of the frames; (B,) expected errors of the sums.

        Args:
            figures_BF: those of the bitstream are 0 where it is unknown.
            deep_BE: deep features.
            is_known_B: 1 where the bitstream is known, else 0.
            score_B: the scores of the frames.
            spread_B: their expected errors, which stay until this network is fitted.
        """
        scores = self.scores(self.units(figures_BF, deep_BE))
        share = self.get_buffer("share")
        differences = share[:, None] * (torch.stack(scores[:2]) - score_B)
        weighted = FigureScores(differences[0], differences[1], scores.doubt_B)
        added_B = torch.where(is_known_B > 0, weighted.known_B, weighted.hidden_B)
        if spread_B is None:
            return added_B, None
        is_used_B = torch.where(is_known_B > 0, share[0], share[1]) > 0
        is_fitted_B = is_used_B & (self.get_buffer("spread").abs().sum() > 0)
        own_B = self.log_spread(scores, is_known_B).exp()
        return added_B, torch.where(is_fitted_B, own_B, spread_B)

    def log_spread(self, scores: FigureScores, is_known_B: Tensor) -> Tensor:
        """Logarithm (B,) of the expected error of the scores: their level and disagreement tell."""
        is_known_B = (is_known_B > 0).to(scores.known_B.dtype)
        hidden_K, known_K = self.get_buffer("spread").unbind(0)
        weights_BK = torch.lerp(hidden_K, known_K, is_known_B[:, None])
        return log_spread(spread_figures(scores, is_known_B), weights_BK)


def spread_figures(scores: FigureScores, is_known_B: Tensor) -> Tensor:
    """What tells the expected error of the scores, (B, K); `is_known_B` is 0 or 1."""
    hidden_B, known_B = scores.hidden_B.clamp(0, 1), scores.known_B.clamp(0, 1)
    level_B = torch.lerp(hidden_B, known_B, is_known_B)
    doubt_B = scores.doubt_B.sigmoid()
    told = [(scores.figures_B - scores.hidden_B).abs(), doubt_B * (1 - doubt_B), doubt_B]
    return torch.stack(
        [torch.ones_like(level_B), level_B, level_B**2, *(is_known_B * each for each in told)],
        dim=1,
    )


def log_spread(figures_BK: Tensor, weights_BK: Tensor) -> Tensor:
    """Logarithm (B,) of the expected error, from `spread_figures` and their weights."""
    return (figures_BK * weights_BK).sum(-1).clamp(*_LOG_SPREAD)


def _without(values: Tensor, left_out: slice, first: int) -> Tensor:
    """Values or weights, whose last axis is of the figures from `first` on, without some."""
    begin, end = (max(place - first, 0) for place in (left_out.start, left_out.stop))
    return torch.cat([values[..., :begin], values[..., end:]], dim=-1)


def _layers(width_in: int, width: int, typical: float) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Linear(width_in, width),
        nn.GELU(),
        nn.Dropout(_DROPOUT),
        nn.Linear(width, width),
        nn.GELU(),
        nn.Dropout(_DROPOUT),
        nn.Linear(width, 1),
    )
    nn.init.constant_(cast(nn.Linear, layers[-1]).bias, typical)
    return layers


def _one_value(layers: nn.Module, unit_BU: Tensor) -> Tensor:
    return in_float32(layers, unit_BU).squeeze(-1)
