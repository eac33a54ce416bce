"""The fit of the figure network."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from vqatool.data.cached_inputs import CachedInputs
from vqatool.inference.fitted_clips import FittedClips
from vqatool.inputs.bitstream import BitstreamFeatures
from vqatool.inputs.clip import Array
from vqatool.inputs.deep_features import NUM_DEEP_FEATURES
from vqatool.inputs.motion import NUM_MOTION_FEATURES
from vqatool.inputs.probing import NUM_OCTAVE_FEATURES, NUM_PROBING_FEATURES
from vqatool.methods import Method, recipe_for
from vqatool.models.quality import QualityModel
from vqatool.training.figures import _chosen, fit_figure_network


@pytest.fixture(autouse=True)
def brief_fit() -> None:
    """Not here: these are the tests of the whole fit."""


@dataclass
class Encode:
    vmaf: float
    is_coded_twice: bool


@dataclass
class MadeUpInputs:
    """Clips whose label is 50 and 40 times the tanh of one of their figures.

    It is a bitstream feature, but hidden in the deep features where they were coded twice, which
    deep features tell as well: every third one.
    """

    count: int
    seed: int
    has_deep: bool = True
    has_octaves: bool = True
    encodes: list[Encode] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        probing = NUM_PROBING_FEATURES + NUM_OCTAVE_FEATURES * self.has_octaves
        widths = (probing, NUM_DEEP_FEATURES, len(BitstreamFeatures._fields))
        self._motion = torch.randn(self.count, 2, NUM_MOTION_FEATURES, generator=generator)
        self._flat = [torch.randn(self.count, width, generator=generator) for width in widths]
        _, deep, stream = self._flat
        stream[:, 0] = 1
        is_twice = torch.arange(self.count) % 3 == 0
        quality, sign = torch.randn(2, self.count, generator=generator)
        known = torch.stack([quality, sign.abs() * torch.where(is_twice, 1, -1)], dim=1)
        way = torch.randn(2, deep.shape[1], generator=torch.Generator().manual_seed(9))
        deep.copy_(known @ way)
        reasons = torch.where(is_twice, quality, stream[:, 5])
        self.encodes = [
            Encode(50 + 40 * float(reason.tanh()), bool(twice))
            for reason, twice in zip(reasons, is_twice, strict=True)
        ]

    def evaluation_views(self, index: int) -> list[Array]:
        pixels = np.zeros((2, 3, 8, 8), np.uint8)
        motion, probing, deep, stream = (
            values[index].numpy() for values in (self._motion, *self._flat)
        )
        return [pixels, motion, probing, *([deep] * self.has_deep), stream]


def fitted(start: QualityModel | None = None, count: int = 200, **shape: Any) -> QualityModel:
    """A model whose figure network is fitted to made-up clips."""
    torch.manual_seed(1)
    given = {"size": "pico", "features": 32, **shape}
    model = recipe_for(Method.COARSE_TO_FINE, given).build().eval()
    has = {name: shape.get(name, True) for name in ("has_deep", "has_octaves")}
    made = MadeUpInputs(count, 0, **has)
    fit_figure_network(model, cast(CachedInputs, made), seed=3, start=start)
    return model


def built() -> QualityModel:
    torch.manual_seed(1)
    given = {"size": "pico", "features": 32}
    return recipe_for(Method.COARSE_TO_FINE, given).build().eval()


def fit(
    model: QualityModel,
    inputs: MadeUpInputs,
    start: QualityModel | None = None,
    known: FittedClips | None = None,
) -> FittedClips:
    made = cast(CachedInputs, inputs)
    clips = fit_figure_network(model, made, seed=3, start=start, known=known)
    assert clips is not None
    return clips


def weights_of(model: QualityModel) -> dict[str, Tensor]:
    assert model.figure_network is not None
    return dict(model.figure_network.named_parameters())


@pytest.fixture(scope="module")
def fitted_to_many() -> QualityModel:
    """Fitted to 600 clips, which takes seconds; not to be changed. It lacks the octaves."""
    return fitted(count=600, has_octaves=False)


@pytest.fixture(scope="module")
def fitted_to_few() -> QualityModel:
    """Fitted to 60 clips; not to be changed."""
    return fitted(count=60)


@pytest.fixture(scope="module")
def fitted_without_deep() -> QualityModel:
    """Fitted to 60 clips without deep features; not to be changed."""
    return fitted(count=60, has_deep=False)


@torch.no_grad()
def test_the_network_learns_the_labels_of_clips_from_their_figures(
    fitted_to_many: QualityModel,
) -> None:
    model, others = fitted_to_many, MadeUpInputs(150, 1, has_octaves=False)
    network = model.figure_network
    assert network is not None
    assert (network.get_buffer("share") > 0).all()
    clips = [
        model.clip_figures([torch.from_numpy(view) for view in others.evaluation_views(i)])
        for i in range(150)
    ]
    figures, deep = (torch.stack(column) for column in zip(*clips, strict=True))
    scores = network.scores(network.units(figures, deep))
    labels = torch.tensor([encode.vmaf for encode in others.encodes])
    is_twice = torch.tensor([encode.is_coded_twice for encode in others.encodes])

    def correlation(score: Tensor, chosen: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([score[chosen], labels[chosen]]))[0, 1])

    assert correlation(scores.known_B, ~is_twice) > 0.85
    assert correlation(scores.known_B, is_twice) > 0.6
    assert correlation(scores.hidden_B, is_twice) > 0.5
    assert abs(correlation(scores.figures_B, is_twice)) < 0.5  # figures do not tell it
    assert scores.doubt_B[is_twice].mean() > 1 + scores.doubt_B[~is_twice].mean()
    assert not any(weight.requires_grad for weight in network.parameters())
    expected = network.log_spread(scores, torch.ones(150))
    errors = (scores.known_B - labels / 100).abs()
    likely = expected > expected.median()
    assert errors[likely].mean() > 1.3 * errors[~likely].mean()


@torch.no_grad()
def test_a_fitted_network_keeps_what_it_knows_when_it_learns_a_few_other_clips(
    fitted_to_many: QualityModel,
) -> None:
    model = fitted_to_many
    network = model.figure_network
    assert network is not None
    mean, others = network.get_buffer("mean").clone(), MadeUpInputs(150, 1, has_octaves=False)
    clips = [
        model.clip_figures([torch.from_numpy(view) for view in others.evaluation_views(i)])
        for i in range(150)
    ]
    figures, deep = (torch.stack(column) for column in zip(*clips, strict=True))
    labels = torch.tensor([encode.vmaf / 100 for encode in others.encodes])

    def error(judged: QualityModel) -> float:
        judged_network = judged.figure_network
        assert judged_network is not None
        scores = judged_network.scores(judged_network.units(figures, deep))
        return float((scores.known_B - labels).abs().mean())

    before = error(model)
    tuned = fitted(model, count=40, has_octaves=False)
    assert tuned.figure_network is not None
    assert torch.equal(tuned.figure_network.get_buffer("mean"), mean)
    assert error(tuned) < 1.1 * before
    assert error(model) == before
    assert error(fitted(count=40, has_octaves=False)) > 1.3 * before  # what they teach alone


@torch.no_grad()
def test_clips_of_the_last_fit_are_learned_again_beside_new_ones() -> None:
    start, few = built(), MadeUpInputs(60, 2)
    known = fit(start, MadeUpInputs(400, 0))
    assert len(known) == 400
    for values in few._flat[2:]:  # of a kind of their own
        values[:, 7] = 4
    few.encodes = [Encode(20, is_coded_twice=False)] * 60

    def errors(model: QualityModel) -> tuple[float, float]:
        network = model.figure_network
        assert network is not None
        scores, others = network.scores(clips.unit_NU), network.scores(known.unit_NU)
        new = scores.known_B[-60:] - clips.label_N[-60:]
        return float(new.abs().mean()), float((others.known_B - known.label_N).abs().mean())

    alone, beside = built(), built()
    assert len(fit(alone, few, start)) == 60
    clips = fit(beside, few, start, known)
    assert len(clips) == 460
    assert torch.equal(clips.unit_NU[:400], known.unit_NU)
    (new_alone, old_alone), (new_beside, old_beside) = errors(alone), errors(beside)
    assert new_beside < new_alone + 0.05
    assert old_beside < 0.8 * old_alone


def test_tuned_weights_are_the_mean_of_those_before_and_after_but_deep_ones_stay(
    fitted_to_few: QualityModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, mean = fitted_to_few, fitted(fitted_to_few, count=40)
    monkeypatch.setattr("vqatool.training.figures._TUNED_SHARE", 1.0)
    # that of a training without a step is in training mode; what is kept has no dropout then, too
    after = built().train()
    fit(after, MadeUpInputs(40, 0), fitted_to_few)
    first, middle, last = (weights_of(each) for each in (before, mean, after))
    moved = {name.split(".")[0] for name in first if not torch.equal(first[name], last[name])}
    assert moved == {"_by_figures", "_doubt"}
    for name in first:
        torch.testing.assert_close(middle[name], (first[name] + last[name]) / 2)


def test_clips_that_another_network_was_fitted_to_are_not_mixed_in(
    fitted_to_few: QualityModel,
) -> None:
    other = FittedClips(torch.zeros(5, 3), torch.zeros(5), torch.zeros(5))
    assert len(fit(built(), MadeUpInputs(40, 0), fitted_to_few, other)) == 40
    same = FittedClips(torch.zeros(5, 87), torch.zeros(5), torch.zeros(5))
    assert len(fit(built(), MadeUpInputs(40, 0), None, same)) == 40


def test_few_new_clips_are_a_third_of_each_batch() -> None:
    torch.manual_seed(0)
    share = [float((_chosen(1000, 10, 1 / 3) >= 990).float().mean()) for _ in range(100)]
    assert 0.3 < np.mean(share) < 0.37
    whole = torch.cat([_chosen(100, 100, 1.0) for _ in range(50)])
    assert {int(whole.min()), int(whole.max())} == {0, 99}


def test_no_more_clips_are_kept_than_fit_into_a_model_file(monkeypatch: pytest.MonkeyPatch) -> None:
    known, new = (
        FittedClips(torch.full((count, 2), value), torch.full((count,), value), torch.zeros(count))
        for count, value in ((30, 1.0), (20, 2.0))
    )
    assert known.sampled(30) is known
    assert len(known.sampled(12)) == 12
    assert known.joined(new).label_N.tolist() == [1.0] * 30 + [2.0] * 20
    monkeypatch.setattr("vqatool.training.figures._MAX_CLIPS", 50)
    start, many = built(), MadeUpInputs(60, 0)
    kept = fit(start, many)
    assert len(kept) == 50
    again = fit(built(), MadeUpInputs(20, 1), start, kept)
    assert len(again) == 50


def test_an_encode_that_is_fitted_again_is_kept_once() -> None:
    start, inputs = built(), MadeUpInputs(30, 0)
    known = fit(start, inputs)
    read = FittedClips.from_tensors(known.tensors())
    assert len(fit(built(), inputs, start, read)) == 30


def test_the_fit_is_the_same_each_time_and_leaves_the_other_layers_and_random_numbers(
    fitted_to_few: QualityModel,
) -> None:
    torch.manual_seed(1)
    recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "features": 32}).build()
    drawn = torch.rand(())
    second = fitted(count=60)
    assert torch.rand(()) == drawn
    one, two = fitted_to_few.state_dict(), second.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    torch.manual_seed(1)
    new = recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "features": 32}).build().state_dict()
    changed = {name.split(".")[0] for name in new if not torch.equal(new[name], one[name])}
    assert changed == {"_figures"}


def test_a_start_that_takes_other_figures_is_no_start(
    fitted_to_few: QualityModel, fitted_without_deep: QualityModel
) -> None:
    first, second = fitted_to_few.state_dict(), fitted(fitted_without_deep, count=60).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    recipe = recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "has_probing": False})
    without_probing = recipe.build().figure_network
    assert without_probing is not None
    without_probing.get_buffer("share").fill_(1.0)
    network = fitted_to_few.figure_network
    assert network is not None
    assert not network.start_from(without_probing)


@torch.no_grad()
def test_a_start_that_lacks_the_octaves_scores_as_before_until_it_learns_them(
    fitted_to_few: QualityModel,
) -> None:
    known = fitted(count=60, has_octaves=False)
    start = known.figure_network
    assert start is not None
    assert fitted_to_few.figure_network is not None
    network, count = deepcopy(fitted_to_few.figure_network), len(start.get_buffer("mean"))
    mean = network.get_buffer("mean").clone()
    assert network.start_from(start)
    assert torch.equal(network.get_buffer("mean")[:count], start.get_buffer("mean"))
    assert torch.equal(network.get_buffer("mean")[count:], mean[count:])
    figures, deep = torch.randn(5, len(mean)), torch.randn(5, NUM_DEEP_FEATURES)
    found = network.scores(network.units(figures, deep))
    expected = start.scores(start.units(figures[:, :count], deep))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    learned = fitted(known, count=60).figure_network
    assert learned is not None
    assert torch.equal(learned.get_buffer("mean")[:count], start.get_buffer("mean"))
    assert (learned.state_dict()["_by_figures.0.weight"][:, count:] != 0).any()
    first, last = (size - len(BitstreamFeatures._fields) for size in (count, len(mean)))
    assert (learned.state_dict()["_without_stream.0.weight"][:, first:last] != 0).any()


@torch.no_grad()
def test_a_start_with_the_swing_of_motion_scores_as_if_that_were_typical(
    fitted_to_few: QualityModel,
) -> None:
    known = fitted(count=60, has_swing=True)
    start, own = known.figure_network, fitted_to_few.figure_network
    assert start is not None
    assert own is not None
    network, left_out = deepcopy(own), fitted_to_few.figures_left_out(known)
    assert network.start_from(start, left_out)
    mean = start.get_buffer("mean")
    figures, deep = torch.randn(5, len(mean)), torch.randn(5, NUM_DEEP_FEATURES)
    figures[:, left_out] = mean[left_out]
    rest = torch.cat([figures[:, : left_out.start], figures[:, left_out.stop :]], dim=1)
    expected = start.scores(start.units(figures, deep))
    found = network.scores(network.units(rest, deep))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert not network.start_from(start)  # other figures
    assert known.figures_left_out(known) == fitted_to_few.figures_left_out(fitted_to_few)


@torch.no_grad()
def test_the_swing_of_motion_counts_only_where_it_is_asked_for() -> None:
    for has_swing in (False, True):
        shape = {"size": "pico", "features": 32, "has_swing": has_swing}
        model = recipe_for(Method.COARSE_TO_FINE, shape).build().eval()
        views = list(map(torch.from_numpy, MadeUpInputs(1, 0).evaluation_views(0)))
        steady = [views[0], views[1].mean(0, keepdim=True).expand(2, -1), *views[2:]]
        (moving, _), (still, _) = map(model.clip_figures, (views, steady))
        assert torch.allclose(moving, still, atol=1e-6) != has_swing


def test_a_start_may_lie_on_another_device(fitted_to_few: QualityModel) -> None:
    start = fitted_to_few.figure_network
    assert start is not None
    # a device that every machine has, and that mixes with no other
    assert deepcopy(start).to("meta").start_from(start)


def test_a_model_without_the_network_stays_as_it_is() -> None:
    assert fitted(has_figure_score=False).figure_network is None
    assert fitted(has_stream=False).figure_network is None


@torch.no_grad()
def test_without_deep_features_an_unknown_stream_leaves_the_score_to_the_frames(
    fitted_without_deep: QualityModel,
) -> None:
    network = fitted_without_deep.figure_network
    assert network is not None
    figures = torch.rand(2, len(network.get_buffer("mean")))
    known = torch.tensor([1.0, 0.0])
    both = torch.tensor([0.1, 0.1])
    moved, spread = network.correction(figures, figures[:, :0], known, both, both)
    assert moved[0] != 0
    assert moved[1] == 0
    assert spread is not None
    assert spread[0] != both[0]
    assert spread[1] == both[1]
