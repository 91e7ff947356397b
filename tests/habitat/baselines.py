"""habitat-baselines started as a user starts it, with networks and schedules small enough for a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "dreamer_nav" / "habitat" / "config" / "pointnav"

TINY = """
base: habitat_bullet
agent:
  rssm: {deter: 16, hidden: 16, stoch: 4, classes: 4}
  encoder: {cnn_depth: 2, mlp_layers: 1, mlp_units: 8}
  head: {layers: 1, units: 8}
  horizon: 3
replay: {capacity_steps: 1000, batch_size: 2, batch_length: 6}
train: {prefill_steps: 20, pretrain_updates: 1, steps_per_update: 4}
eval: {env: {max_steps: 12}}
"""


class Workplace:
    """A folder outside the checkout in which `python -m habitat_baselines.run` is started.

    Args:
        folder: empty.
        episodes: a data set of Bullet-v0, or None.
        overrides: of every command.
    """

    def __init__(
        self, folder: Path, episodes: Path | None = None, overrides: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self._overrides = overrides
        (folder / "tiny.yaml").write_text(TINY)
        if episodes is not None:
            data = folder / "data" / "datasets" / "pointnav"
            data.mkdir(parents=True)
            (data / "bullet_apartment").symlink_to(episodes)

    def command(self, name: str, *overrides: str) -> list[str]:
        """The command line; our agent is a tiny one."""
        words = ["habitat.environment.max_episode_steps=12", "habitat_baselines.num_environments=2"]
        if name.startswith("dreamer"):
            words += [
                f"habitat_baselines.dreamer.preset={self.folder}/tiny.yaml",
                "habitat_baselines.num_checkpoints=2",
                "habitat_baselines.log_interval=5",
                "habitat_baselines.rl.preemption.save_resume_state_interval=10",
            ]
        module = ["-m", "habitat_baselines.run", f"--config-name=pointnav/{name}"]
        return [sys.executable, *module, *words, *self._overrides, *overrides]

    def environment(self) -> dict[str, str]:
        """Variables that do not lead back into the checkout."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return {**kept, "OMP_NUM_THREADS": "1"}

    def run(self, name: str, *overrides: str, rc: int = 0) -> str:
        """Run to its end; returns stdout and stderr."""
        done = subprocess.run(
            self.command(name, *overrides),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=900,
        )
        text = done.stdout + done.stderr
        assert done.returncode == rc, text[-4000:]
        return text

    def train_ppo(self, *overrides: str) -> Path:
        """Two updates of habitat-baselines' PPO; returns its checkpoint, which pickles its configuration."""
        self.run(
            "ppo_bullet",
            "habitat_baselines.rl.ppo.num_steps=16",
            "habitat_baselines.rl.ppo.hidden_size=32",
            "habitat_baselines.total_num_steps=64",
            "habitat_baselines.num_checkpoints=-1",
            "habitat_baselines.checkpoint_interval=1",
            *overrides,
        )
        return self.checkpoints("ppo_bullet") / "latest.pth"

    def evaluate_with_theirs(self, name: str, checkpoint: Path, *overrides: str) -> str:
        """habitat-baselines' own evaluator plays three episodes with our agent; scalars go to "stock"."""
        return self.run(
            name,
            "habitat_baselines.evaluate=True",
            "habitat_baselines.trainer_name=ppo",
            "habitat_baselines.rl.policy.main_agent.name=DreamerPolicy",
            "habitat_baselines.load_resume_state_config=False",
            f"habitat_baselines.eval_ckpt_path_dir={checkpoint}",
            "habitat_baselines.tensorboard_dir=tb/stock",
            "habitat_baselines.test_episode_count=3",
            *overrides,
        )

    def checkpoints(self, name: str) -> Path:
        """The folder of checkpoints."""
        return self.folder / "data" / "checkpoints" / name

    def scalars(self, name: str) -> dict[str, list[tuple[int, float]]]:
        """TensorBoard's scalars: (step, value) by tag, in the order they were written."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found: dict[str, list[tuple[int, float]]] = {}
        for file in sorted((self.folder / "tb" / name).glob("events*"), key=os.path.getmtime):
            events: Any = EventAccumulator(str(file))
            events.Reload()
            for tag in events.Tags()["scalars"]:
                pairs = [(e.step, e.value) for e in events.Scalars(tag)]
                found.setdefault(tag, []).extend(pairs)
        return found
