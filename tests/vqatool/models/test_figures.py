"""The small networks on figures of whole clips."""

import math

import pytest
import torch

from tests.vqatool.models.test_every_model import views
from vqatool.inputs.probing import NUM_OCTAVE_FEATURES, NUM_PROBING_FEATURES
from vqatool.methods import Method, recipe_for
from vqatool.models.figures import FigureNetwork, FigureScores

RECIPE = recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "features": 32})


def network(share: float = 0.0) -> FigureNetwork:
    torch.manual_seed(2)
    made = FigureNetwork(figures=6, stream=2, deep=10).eval()
    made.standardise(torch.randn(30, 6), torch.randn(30, 10))
    made.get_buffer("share").fill_(share)
    return made


@torch.no_grad()
def test_its_scores_count_once_it_is_fitted() -> None:
    figures, deep = torch.rand(3, 6), torch.rand(3, 10)
    score, is_known = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([1.0, 0.0, 1.0])
    assert (network().correction(figures, deep, is_known, score, None)[0] == 0).all()
    half = network(0.5)
    own = half.scores(half.units(figures, deep))
    expected = torch.stack([own.known_B[0], own.hidden_B[1], own.known_B[2]])
    found, spread = half.correction(figures, deep, is_known, score, None)
    assert spread is None
    assert torch.allclose(found, (expected - score) / 2)


@torch.no_grad()
def test_the_score_of_an_unknown_stream_does_not_depend_on_its_figures() -> None:
    figures, deep, one = torch.rand(1, 6), torch.rand(1, 10), torch.ones(1)
    other = figures.clone()
    other[:, :2] += 1
    full = network(1.0)
    hidden = [full.correction(each, deep, 0 * one, one, None)[0] for each in (figures, other)]
    known = [full.correction(each, deep, one, one, None)[0] for each in (figures, other)]
    assert torch.equal(*hidden)
    assert not torch.equal(*known)


def test_the_score_moves_to_that_without_the_bitstream_with_the_doubt_of_it() -> None:
    one = torch.ones(1)
    scores = [FigureScores(0.9 * one, 0.3 * one, logit * one) for logit in (-20, 0, 20)]
    assert [float(each.known_B) for each in scores] == pytest.approx([0.9, 0.6, 0.3])


@torch.no_grad()
def test_components_of_deep_features_have_unit_deviation() -> None:
    torch.manual_seed(0)
    mixed = torch.randn(200, 4) @ torch.randn(4, 10) * 50 + 7  # four components, not ten
    made = FigureNetwork(figures=1, stream=0, deep=10)
    made.standardise(torch.rand(200, 1), mixed)
    components = ((mixed - made.get_buffer("deep_mean")) @ made.get_buffer("basis")).std(
        0, unbiased=False
    )
    assert torch.allclose(components[:4], torch.ones(4), atol=1e-3)
    assert (components[4:] < 0.01).all()


@torch.no_grad()
def test_a_network_without_deep_features_takes_figures_alone() -> None:
    made = FigureNetwork(figures=6, stream=2, deep=0).eval()
    made.standardise(torch.randn(30, 6), torch.zeros(30, 0))
    scores = made.scores(made.units(torch.rand(3, 6), torch.zeros(3, 0)))
    assert scores.known_B.shape == (3,)
    assert torch.allclose(scores.known_B, scores.figures_B)


@torch.no_grad()
def test_components_are_computed_in_full_precision() -> None:
    made, figures, deep = network(), torch.rand(3, 6), 50 * torch.rand(3, 10)
    expected = made.units(figures, deep)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made.units(figures, deep), expected)


@torch.no_grad()
def test_a_second_fit_keeps_nothing_of_the_first() -> None:
    made, fresh = network(), FigureNetwork(figures=6, stream=2, deep=10)
    figures, deep = torch.randn(4, 6), torch.randn(4, 10)
    for each in (made, fresh):
        each.standardise(figures, deep)
    assert torch.equal(made.get_buffer("basis"), fresh.get_buffer("basis"))
    assert (fresh.get_buffer("basis")[:, 4:] == 0).all()


@torch.no_grad()
def test_scores_of_frames_move_with_the_score() -> None:
    model = RECIPE.build().eval()
    clips = views(RECIPE, 2)
    before = model(*clips)
    assert model.figure_network is not None
    model.figure_network.get_buffer("share").fill_(0.5)
    after = model(*clips)
    moved = after.score_B - before.score_B
    assert (moved != 0).all()
    assert torch.allclose(after.frame_score_BT - before.frame_score_BT, moved[:, None], atol=1e-5)
    assert torch.equal(after.features_BD, before.features_BD)


def test_the_figures_are_those_of_the_views_and_not_learned_with_the_other_layers() -> None:
    model = RECIPE.build()
    assert model.figure_network is not None
    pixels, motion, probing, deep, stream = (view[0] for view in views(RECIPE, 1))
    figures, taken = model.clip_figures([pixels, motion, probing, deep, stream])
    old, octaves = probing.split([NUM_PROBING_FEATURES, NUM_OCTAVE_FEATURES])
    parts = [stream, old, motion.mean(0), octaves]
    assert torch.equal(figures, torch.cat(parts))
    assert torch.equal(taken, deep)
    # the views of a training are mapped from files, and thousands of them cannot be open
    assert taken.data_ptr() != deep.data_ptr()
    assert figures.data_ptr() != stream.data_ptr()
    assert not any(weight.requires_grad for weight in model.figure_network.parameters())


def test_a_training_that_starts_from_a_model_fits_the_network_anew() -> None:
    known, model = RECIPE.build(), RECIPE.build()
    assert known.figure_network is not None
    assert model.figure_network is not None
    known.figure_network.get_buffer("share").fill_(0.5)
    model.init_from(known)
    assert (model.figure_network.get_buffer("share") == 0).all()
    assert torch.equal(model.state_dict()["_position"], known.state_dict()["_position"])


@torch.no_grad()
def test_expected_errors_stay_those_of_the_frames_until_they_are_fitted() -> None:
    figures, deep, one = torch.rand(1, 6), torch.rand(1, 10), torch.ones(1)
    full = network(1.0)
    assert full.correction(figures, deep, one, one, 0.07 * one)[1] == 0.07 * one
    full.get_buffer("spread")[:, 0] = -2.0
    for is_known in (0 * one, one):
        _, spread = full.correction(figures, deep, is_known, one, 0.07 * one)
        assert spread == pytest.approx(math.exp(-2))


def test_scores_that_disagree_are_expected_to_be_further_off() -> None:
    one = torch.ones(1)
    made = network(1.0)
    made.get_buffer("spread")[:, 0] = -3.0
    made.get_buffer("spread")[:, 3] = 1.0
    agreed = FigureScores(0.5 * one, 0.5 * one, -20 * one)
    apart = agreed._replace(figures_B=0.9 * one)
    assert made.log_spread(apart, one) - made.log_spread(agreed, one) == pytest.approx(0.4)
    assert made.log_spread(apart, 0 * one) == made.log_spread(agreed, 0 * one)
