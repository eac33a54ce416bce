import pytest
import torch

from vqatool.methods import Method, recipe_for
from vqatool.models.coarse_to_fine import FigureLayers


def taught_layers(noise: float = 0.3, steps: int = 200) -> FigureLayers:
    torch.manual_seed(0)
    layers = FigureLayers(3, 8, noise).train()
    for _ in range(steps):
        layers(torch.randn(16, 3) * torch.tensor([1.0, 50.0, 0.01]) + torch.tensor([0.0, 9.0, 5.0]))
    return layers


def first_input(layers: FigureLayers, figures: torch.Tensor) -> torch.Tensor:
    """What the first linear layer gets."""
    seen: list[torch.Tensor] = []
    first = next(layer for layer in layers.modules() if isinstance(layer, torch.nn.Linear))
    with first.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0])):
        layers(figures)
    return seen[0]


def test_figures_of_any_scale_become_alike() -> None:
    """A step of one deviation changes the input of the layers by as much for every figure."""
    figures = torch.tensor([[0.0, 9.0, 5.0], [1.0, 59.0, 5.01]])
    middle, one_up = first_input(taught_layers().eval(), figures)
    assert middle.abs().max() < 0.2
    assert torch.allclose(one_up - middle, torch.ones(3), atol=0.35)


def test_figures_have_noise_in_training_alone() -> None:
    layers, figures = taught_layers(steps=1200), torch.tensor([[0.5, 20.0, 5.0]]).expand(4000, 3)
    still = first_input(layers.eval(), figures)
    assert still.std(0).max() < 1e-4
    assert first_input(layers.train(), figures).std(0) == pytest.approx([0.3] * 3, abs=0.02)


def test_an_absurd_figure_counts_as_a_large_one() -> None:
    layers = taught_layers().eval()
    large, absurd = torch.tensor([[0.0, 9 + 8 * 50.0, 5.0]]), torch.tensor([[0.0, 1e30, 5.0]])
    assert torch.equal(layers(large), layers(absurd))


def test_means_of_figures_survive_half_precision() -> None:
    layers = taught_layers(steps=1200)
    halves = {name: value.half() for name, value in layers.state_dict().items()}
    assert all(value.isfinite().all() for value in halves.values())
    again = FigureLayers(3, 8, 0.3).eval()
    again.load_state_dict({name: value.float() for name, value in halves.items()})
    figures = torch.randn(4, 3) * torch.tensor([1.0, 50.0, 0.01]) + torch.tensor([0.0, 9.0, 5.0])
    assert torch.allclose(again(figures), layers.eval()(figures), atol=0.1)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_noise_that_is_none_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match="figure_noise"):
        recipe_for(Method.COARSE_TO_FINE, {"figure_noise": noise})
