"""The fit of the figure network."""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from vqatool.data.cached_inputs import CachedInputs
from vqatool.inputs.bitstream import BitstreamFeatures
from vqatool.inputs.motion import NUM_MOTION_FEATURES
from vqatool.inputs.probing import NUM_PROBING_FEATURES
from vqatool.methods import Method, recipe_for
from vqatool.models.quality import QualityModel
from vqatool.training.figures import fit_figure_network


@dataclass
class Encode:
    vmaf: float


@dataclass
class MadeUpInputs:
    """Clips whose label is 50 and 40 times the tanh of one of their bitstream features."""

    count: int
    seed: int
    encodes: list[Encode] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        widths = (NUM_PROBING_FEATURES, len(BitstreamFeatures._fields))
        self._motion = torch.randn(self.count, 2, NUM_MOTION_FEATURES, generator=generator)
        self._flat = [torch.randn(self.count, width, generator=generator) for width in widths]
        for _, stream in [self._flat]:
            stream[:, 0] = 1
            self.encodes = [Encode(50 + 40 * float(each.tanh())) for each in stream[:, 5]]

    def evaluation_views(self, index: int) -> list[Tensor]:
        pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        return [pixels, self._motion[index], *(values[index] for values in self._flat)]


def fitted(**shape: Any) -> QualityModel:
    torch.manual_seed(1)
    given = {"size": "pico", "features": 32, **shape}
    model = recipe_for(Method.COARSE_TO_FINE, given).build().eval()
    fit_figure_network(model, cast(CachedInputs, MadeUpInputs(200, 0)), seed=3)
    return model


@torch.no_grad()
def test_the_network_learns_the_labels_of_clips_from_their_figures() -> None:
    model, others = fitted(), MadeUpInputs(100, 1)
    network = model.figure_network
    assert network is not None
    assert network.get_buffer("share") == 0.5
    figures = torch.stack([model.clip_figures(others.evaluation_views(i)) for i in range(100)])
    scores = network.score(network.standardised(figures))
    labels = torch.tensor([encode.vmaf for encode in others.encodes])
    assert torch.corrcoef(torch.stack([scores, labels]))[0, 1] > 0.9
    assert not any(weight.requires_grad for weight in network.parameters())


def test_the_fit_is_the_same_each_time_and_leaves_the_other_layers_and_random_numbers() -> None:
    first = fitted()
    drawn = torch.rand(())
    second = fitted()
    assert torch.rand(()) == drawn
    one, two = first.state_dict(), second.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    torch.manual_seed(1)
    new = recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "features": 32}).build().state_dict()
    changed = {name.split(".")[0] for name in new if not torch.equal(new[name], one[name])}
    assert changed == {"_figures"}


def test_a_model_without_the_network_stays_as_it_is() -> None:
    assert fitted(has_figure_score=False).figure_network is None
    assert fitted(has_stream=False).figure_network is None
