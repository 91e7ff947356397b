"""Open-loop videos: windows stay inside an episode, the truth is shown, filming changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dreamer_nav.imagination import longest_stretches, open_loop_videos
from dreamer_nav.presets import load_config
from dreamer_nav.train import Trainer


def test_windows_never_contain_the_start_of_another_episode() -> None:
    is_first = np.zeros((2, 12), bool)
    is_first[0, [2, 7]] = True  # episodes of 5 and 5 rows; what precedes row 2 began too long ago
    is_first[1, 3] = True  # one of 9 rows
    assert longest_stretches(is_first, 5, 9) == [(0, 2), (0, 7), (1, 3)]
    assert longest_stretches(is_first, 6, 9) == [(1, 3)]
    assert longest_stretches(is_first, 10, 9) == []
    assert longest_stretches(is_first, 5, 1) == [(0, 2)]


def test_a_video_shows_the_truth_and_leaves_the_generator_alone(tmp_path: Path) -> None:
    config = load_config("debug", [])
    config = replace(config, train=replace(config.train, steps=60, num_envs=2))
    trainer = Trainer(config, tmp_path)
    try:
        trainer.run()
        before = trainer.agent.generator.get_state()
        videos = open_loop_videos(trainer.agent, trainer.replay, context=2)
        assert torch.equal(before, trainer.agent.generator.get_state())
    finally:
        trainer.close()
    frames = videos["image"]
    assert frames.dtype == np.uint8
    assert frames.shape[0] >= 4
    assert frames.shape[1] % 3 == 0
    assert list((tmp_path / "videos").glob("open_loop_image-*.mp4"))


def test_streams_of_unequal_length_can_be_filmed(tmp_path: Path) -> None:
    config = load_config("debug", ["env.task=terminal"])
    config = replace(config, train=replace(config.train, steps=60, num_envs=3))
    trainer = Trainer(config, tmp_path)
    try:
        trainer.run()
        assert len(set(trainer.replay.state_dict()["rows"])) > 1
        newest = trainer.replay.newest(1000, ["is_first"])["is_first"]
        assert newest.shape == (3, min(trainer.replay.state_dict()["rows"]))
    finally:
        trainer.close()
