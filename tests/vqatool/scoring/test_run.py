"""The model's side of scoring: on several threads where there are cores for them."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ladder.media.probe import Size
from tests.conftest import MakeVideo
from vqatool.inference.engine import Output
from vqatool.inference.loading import load_predictor
from vqatool.inference.predictor import Predictor
from vqatool.inputs.clip import Array
from vqatool.scoring.rows import ScoredVideo
from vqatool.scoring.run import score_videos
from vqatool.scoring.segments import ScoreConfig


def scores_of(videos: Sequence[Path], predictor: Predictor) -> list[tuple[str, float]]:
    config = ScoreConfig(display=Size(320, 180), segment_s=0.5, jobs=2)
    found = []
    for result in score_videos(videos, predictor, config):
        assert isinstance(result, ScoredVideo)
        found += [(result.path.name, segment.score) for segment in result.segments]
    return found


def test_segments_are_scored_side_by_side_and_in_order(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [
        make_video(f"beside-{rate}.mp4", f"testsrc=s=160x90:r={rate}:d=1.5") for rate in (10, 12)
    ]
    predictor = load_predictor(device="cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    alone = scores_of(videos, predictor)
    both_at_once = threading.Barrier(2, timeout=60)

    class Watched(Predictor):
        calls = 0

        def predict_finished(self, clips: Sequence[Sequence[Array]]) -> Output:
            Watched.calls += 1
            if Watched.calls <= 2:
                both_at_once.wait()
            return super().predict_finished(clips)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    predictor.__class__ = Watched
    assert scores_of(videos, predictor) == alone
    assert Watched.calls == len(alone) == 6
