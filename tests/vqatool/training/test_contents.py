"""The contents of a training: places that tell contents apart and not their quality."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from vqatool.data.cached_inputs import CachedInputs
from vqatool.errors import CheckpointError
from vqatool.inference.contents import Contents, content_figures
from vqatool.inputs.bitstream import BitstreamFeatures
from vqatool.inputs.clip import Array
from vqatool.inputs.motion import NUM_MOTION_FEATURES
from vqatool.inputs.probing import NUM_PROBING_FEATURES
from vqatool.methods import Method, recipe_for
from vqatool.training.contents import training_contents

RECIPE = recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "has_deep": False})
STREAM = len(BitstreamFeatures._fields)


@dataclass
class MadeUpInputs:
    """Encodes of contents: quality moves every figure three times as much as content does."""

    contents: int = 30
    rungs: int = 4

    def __post_init__(self) -> None:
        rng = np.random.default_rng(4)
        width = NUM_PROBING_FEATURES
        content_NK = rng.normal(size=(self.contents, width))
        # along one direction, as of all encodes
        quality_RK = np.linspace(-3, 3, self.rungs)[:, None] * np.ones(width)
        noise = 0.1 * rng.normal(size=(self.contents, self.rungs, width))
        self._probing = (content_NK[:, None] + quality_RK + noise).reshape(-1, width)
        # the same for all encodes of a rung: told apart by it, contents would be rungs
        self._stream = np.tile(9 * rng.normal(size=(self.rungs, STREAM)), (self.contents, 1))
        names = [f"film{number:02}" for number in range(self.contents)]
        self.encodes = [SimpleNamespace(source=n) for n in names for _ in range(self.rungs)]

    def evaluation_views(self, index: int) -> list[Array]:
        pixels = np.zeros((2, 3, 8, 8), np.uint8)
        motion = np.zeros((2, NUM_MOTION_FEATURES), np.float32)
        probing, stream = (each[index].astype(np.float32) for each in (self._probing, self._stream))
        return [pixels, motion, probing, stream]


def contents_of(inputs: MadeUpInputs) -> Contents:
    found = training_contents(RECIPE, cast(CachedInputs, inputs))
    assert found is not None
    return found


def test_an_encode_is_nearest_to_its_own_content_whatever_its_quality() -> None:
    inputs = MadeUpInputs()
    found = contents_of(inputs)
    assert found.names == tuple(f"film{number:02}" for number in range(30))
    raw_ok = ok = 0
    figures = [content_figures(RECIPE.inputs, inputs.evaluation_views(i)) for i in range(120)]
    means = np.array(figures).reshape(30, 4, -1).mean(1)
    for index, figures_F in enumerate(figures):
        nearest, *others = found.nearest(found.distances(figures_F), 3)
        ok += nearest.name == inputs.encodes[index].source
        assert nearest.distance <= others[0].distance <= others[1].distance
        raw_ok += int(np.linalg.norm(means - figures_F, axis=1).argmin()) == index // 4
    assert ok >= 118
    assert raw_ok < 80  # by the figures themselves quality decides
    assert found.own < found.far


def test_far_is_what_few_contents_are_from_their_nearest() -> None:
    found = contents_of(MadeUpInputs())
    assert found.share_of_farther(found.far) == pytest.approx(0.05, abs=0.04)
    assert found.share_of_farther(0.0) == 1
    unlike = np.full(len(found.projection_FD), 40, np.float32)
    unlike[::2] = -40
    assert found.distances(unlike).min() > found.far


def test_the_bitstream_tells_nothing_of_the_content() -> None:
    inputs = MadeUpInputs()
    views = inputs.evaluation_views(0)
    figures = content_figures(RECIPE.inputs, views)
    assert len(figures) == NUM_PROBING_FEATURES + 2 * NUM_MOTION_FEATURES
    views[-1] = views[-1] + 5
    assert (content_figures(RECIPE.inputs, views) == figures).all()


def test_contents_survive_their_text_and_stay_small() -> None:
    found = contents_of(MadeUpInputs(contents=500, rungs=2))
    text = found.text()
    assert len(text) < 100_000
    read = Contents.parse(text)
    assert read is not None
    figures = content_figures(RECIPE.inputs, MadeUpInputs().evaluation_views(3))
    assert read.distances(figures) == pytest.approx(found.distances(figures), rel=1e-4)
    assert (read.names, read.own, read.far) == (found.names, found.own, found.far)
    assert Contents.parse(None) is None
    with pytest.raises(ValueError, match="499 contents have 500 places"):
        Contents.parse(text.replace('"film00", ', "", 1))
    with pytest.raises(CheckpointError, match=r"told by 30 figures.*takes 29"):
        read.distances(figures[1:])


def test_one_source_and_pixels_alone_have_no_contents() -> None:
    assert training_contents(RECIPE, cast(CachedInputs, MadeUpInputs(contents=1))) is None
    zoom = recipe_for(Method.ZOOM_VQA, {"size": "pico"})
    views = [np.zeros((2, 3, 8, 8), np.uint8)] * len(zoom.inputs)
    inputs = SimpleNamespace(
        encodes=MadeUpInputs().encodes, evaluation_views=lambda index: list(views)
    )
    assert training_contents(zoom, cast(CachedInputs, inputs)) is None


def test_single_encodes_have_places_too() -> None:
    inputs = MadeUpInputs(rungs=1)
    found = contents_of(inputs)
    assert found.own == 0
    (nearest,) = found.nearest(
        found.distances(content_figures(RECIPE.inputs, inputs.evaluation_views(7))), 1
    )
    assert nearest.name == "film07"


def test_contents_of_the_start_stay_and_new_ones_are_placed_among_them() -> None:
    inputs, more = MadeUpInputs(), MadeUpInputs(contents=3)
    start = contents_of(inputs)
    for encode in more.encodes[4:]:  # the first is one of those that are known
        encode.source = f"new {encode.source}"
    found = training_contents(RECIPE, cast(CachedInputs, more), start)
    assert found is not None
    assert found.names == (*start.names, "new film01", "new film02")
    assert found.own == start.own
    np.testing.assert_array_equal(found.projection_FD, start.projection_FD)
    np.testing.assert_array_equal(found.place_ND[1:30], start.place_ND[1:])
    for index in range(4, 12):
        figures = content_figures(RECIPE.inputs, more.evaluation_views(index))
        nearest, _ = found.nearest(found.distances(figures), 2)
        assert nearest.name == more.encodes[index].source
