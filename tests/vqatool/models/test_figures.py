"""The network on figures of whole clips."""

import torch

from tests.vqatool.models.test_every_model import views
from vqatool.methods import Method, recipe_for
from vqatool.models.figures import FigureNetwork

RECIPE = recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "features": 32})


@torch.no_grad()
def test_the_score_of_the_figures_counts_once_it_is_fitted_and_where_the_stream_is_known() -> None:
    network = FigureNetwork(6).eval()
    figures, score, is_known = torch.rand(3, 6), torch.tensor([0.2, 0.5, 0.9]), torch.ones(3)
    assert (network.correction(figures, is_known, score) == 0).all()
    network.get_buffer("share").fill_(0.5)
    is_known[1] = 0
    own = network.score(network.standardised(figures))
    expected = torch.stack([(own[0] - 0.2) / 2, torch.tensor(0.0), (own[2] - 0.9) / 2])
    assert torch.allclose(network.correction(figures, is_known, score), expected)


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
    network = model.figure_network
    assert network is not None
    pixels, motion, probing, stream = (view[0] for view in views(RECIPE, 1))
    found = model.clip_figures([pixels, motion, probing, stream])
    parts = [stream, probing, motion.mean(0), motion.std(0, unbiased=False)]
    assert torch.equal(found, torch.cat(parts))
    assert not any(weight.requires_grad for weight in network.parameters())


def test_a_training_that_starts_from_a_model_fits_the_network_anew() -> None:
    known, model = RECIPE.build(), RECIPE.build()
    assert known.figure_network is not None
    assert model.figure_network is not None
    known.figure_network.get_buffer("share").fill_(0.5)
    model.init_from(known)
    assert model.figure_network.get_buffer("share") == 0
    assert torch.equal(model.state_dict()["_position"], known.state_dict()["_position"])
