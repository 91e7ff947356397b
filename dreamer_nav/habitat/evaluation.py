"""Evaluates a checkpoint as habitat-baselines does: a fixed set of episodes, TensorBoard, videos."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from habitat import logger
from habitat.utils.visualizations.utils import observations_to_image, overlay_frame
from habitat_baselines.utils.common import generate_video
from habitat_baselines.utils.info_dict import extract_scalars_from_info

from dreamer_nav.evaluate import EPISODE_SEED, check_spaces, evaluate_agent
from dreamer_nav.failures import UsageError
from dreamer_nav.habitat.settings import device_of, evaluation_config
from dreamer_nav.habitat.training import MeasureWindow
from dreamer_nav.habitat.weights import load_agent
from dreamer_nav.report import format_table, summarize
from dreamer_nav.rollouts import Rollout, fixed_episodes
from dreamer_nav.runs import build_env

__all__ = ["evaluate_checkpoint", "make_video_folder"]


def evaluate_checkpoint(config: Any, path: Path, number: int, writer: Any) -> dict[str, float]:
    """Play the split `habitat_baselines.eval.split` with the agent of a file; prints means with 95 % intervals.

    Args:
        config: habitat-baselines' whole configuration.
        path: of the checkpoint file.
        number: of the checkpoint, for the names of videos.
        writer: habitat-baselines' TensorBoard or W&B writer.

    Returns:
        The means of habitat-lab's measures and the reward.

    Raises:
        UsageError, HabitatError, CheckpointError: what the user can mend.
    """
    saved = load_agent(path, device_of(config))
    theirs = config.habitat_baselines
    with tempfile.TemporaryDirectory() as folder:
        ours = evaluation_config(config, saved.config, Path(folder) / "habitat.yaml")
        episodes = _count_episodes(ours, saved.agent.obs, saved.agent.action)
        logger.info(f"{path}: trained for {saved.step} steps; {episodes} episodes")
        watcher = _Watcher(config, number, writer)
        results = evaluate_agent(
            saved.agent,
            lambda: build_env(ours, **ours.eval.env),
            episodes=episodes,
            seed=EPISODE_SEED,
            sample_actions=ours.eval.sample_actions,
            num_envs=int(theirs.num_environments),
            on_step=watcher.on_step,
        )
    print(format_table({path.name: summarize(results)}))
    means = watcher.measures.means()
    for name, value in means.items():
        logger.info(f"Average episode {name}: {value:.4f}")
    writer.add_scalar("eval_reward/average_reward", means["reward"], saved.step)
    for name in means.keys() - {"reward"}:
        writer.add_scalar(f"eval_metrics/{name}", means[name], saved.step)
    return means


def make_video_folder(config: Any) -> None:
    """Make the folders that `eval.video_option` needs.

    Raises:
        UsageError: an option that habitat-baselines does not have, or a folder that is not named.
    """
    theirs = config.habitat_baselines
    places = {
        "disk": ("video_dir", theirs.video_dir),
        "tensorboard": ("tensorboard_dir", theirs.tensorboard_dir),
    }
    for option in theirs.eval.video_option:
        if option not in places:
            raise UsageError(
                f"habitat_baselines.eval.video_option may hold disk and tensorboard, got {option!r}"
            )
        name, folder = places[option]
        if not folder:
            raise UsageError(f"eval.video_option has {option!r}: set habitat_baselines.{name}")
        os.makedirs(folder, exist_ok=True)


def _count_episodes(ours: Any, obs: Any, action: Any) -> int:
    """How many of those there are to play; checks that the agent fits the environment."""
    env = build_env(ours, **ours.eval.env)
    try:
        check_spaces(obs, action, ours, env)
        there = fixed_episodes(env)
    finally:
        env.close()
    assert there is not None  # habitat-lab's data sets are lists
    return min(int(ours.eval.episodes), there)


class _Watcher:
    """Collects habitat-lab's measures, and pictures where videos are wanted."""

    def __init__(self, config: Any, number: int, writer: Any) -> None:
        self._theirs, self._number, self._writer = config.habitat_baselines, number, writer
        self._films = bool(self._theirs.eval.video_option)
        self._frames: dict[int, list[np.ndarray]] = {}
        self.measures = MeasureWindow(2**31 - 1)

    def on_step(self, rollout: Rollout) -> None:
        """Called after each reset and step."""
        if self._films:
            self._film(rollout)
        if rollout.done:
            self.measures.add({**rollout.info, "return": rollout.total_return})

    def _film(self, rollout: Rollout) -> None:
        metrics = rollout.env.unwrapped.env.habitat_env.get_metrics()  # type: ignore[attr-defined]
        frame = observations_to_image(rollout.obs, metrics)
        scalars = extract_scalars_from_info(metrics)
        frames = self._frames.setdefault(rollout.index, [])
        frames.append(overlay_frame(frame, scalars) if rollout.steps else frame)
        if not rollout.done:
            return
        generate_video(
            video_option=list(self._theirs.eval.video_option),
            video_dir=self._theirs.video_dir,
            images=self._frames.pop(rollout.index),
            episode_id=str(rollout.info["episode_id"]),
            checkpoint_idx=self._number,
            metrics=scalars,
            tb_writer=self._writer,
            fps=self._theirs.video_fps,
            verbose=False,
            keys_to_include_in_name=list(self._theirs.eval_keys_to_include_in_name),
        )
