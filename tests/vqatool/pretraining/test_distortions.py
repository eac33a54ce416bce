import numpy as np
import pytest

from ladder.media.decode import frames_at
from ladder.media.probe import probe
from ladder.media.upright import Pixels
from vqatool.cli.demo import demo_clip
from vqatool.pretraining.distortions import (
    ALL_DISTORTIONS,
    LEVELS,
    Distortion,
    distort,
    sample_distortions,
)


@pytest.fixture(scope="module")
def picture() -> Pixels:
    return np.ascontiguousarray(frames_at(probe(demo_clip()), [2.0], (384, 216))[0][:192, :256])


def errors(picture: Pixels, distortions: list[Distortion]) -> list[float]:
    return [
        float(
            np.square(
                picture - distort(picture, distortion, np.random.default_rng(0)).astype(float)
            ).mean()
        )
        for distortion in distortions
    ]


@pytest.mark.parametrize("kind", LEVELS)
def test_levels_run_from_slight_to_severe(picture: Pixels, kind: str) -> None:
    assert len(LEVELS[kind]) >= 5
    mean_squares = errors(picture, [Distortion(kind, level) for level in LEVELS[kind]])
    assert mean_squares == sorted(mean_squares)
    assert 0 < mean_squares[0] < mean_squares[-1] / 3


def test_a_smaller_rendition_has_larger_errors(picture: Pixels) -> None:
    mean_squares = errors(
        picture, [Distortion("libx264", 20, share) for share in (1.0, 0.75, 0.5, 0.33)]
    )
    assert mean_squares == sorted(mean_squares)
    assert mean_squares[0] < mean_squares[-1] / 2


def test_a_distortion_depends_only_on_its_seed(picture: Pixels) -> None:
    noise = Distortion("noise", 8)
    first, again, other = (
        distort(picture, noise, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sampled_distortions_are_all_different() -> None:
    sampled = sample_distortions(30, np.random.default_rng(0))
    assert len(set(sampled)) == 30
    assert set(sampled) <= set(ALL_DISTORTIONS)
    with pytest.raises(ValueError, match="not 1000"):
        sample_distortions(1000, np.random.default_rng(0))


@pytest.mark.parametrize("wrong", [("fog", 1.0, 1.0), ("blur", 1.0, 0.0)])
def test_an_unknown_distortion_is_refused(wrong: tuple[str, float, float]) -> None:
    with pytest.raises(ValueError, match="is not valid"):
        Distortion(*wrong)
