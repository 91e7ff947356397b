"""The training loop: act, remember, learn; checkpoints from which a run resumes exactly."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamer_nav.agent import Agent, PolicyState
from dreamer_nav.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from dreamer_nav.config import Config
from dreamer_nav.driver import Driver
from dreamer_nav.metrics import EpisodeStats, Mean, MetricsLogger
from dreamer_nav.presets import save_yaml, to_dict
from dreamer_nav.process import configure_process
from dreamer_nav.replay import Replay, RowSpec
from dreamer_nav.rssm import State
from dreamer_nav.runs import (
    AGENT_PREFIX,
    agent_tensors,
    build_agent,
    describe_spaces,
    make_envs,
    to_tensors,
)

__all__ = ["NonFiniteLoss", "Trainer", "train"]

_BATCH_KEYS = ("action", "reward", "is_first", "is_terminal")


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite; the batch was saved and the last checkpoint is untouched."""


def train(
    config: Config, run_dir: Path, resume: bool = False, checkpoint: Path | None = None
) -> Path:
    """Train until `config.train.steps`; returns the run folder. `resume` goes on from the last checkpoint."""
    run_dir = Path(run_dir)
    configure_process(config.threads)
    trainer = Trainer(config, run_dir, resume=resume, checkpoint=checkpoint)
    try:
        trainer.run()
    finally:
        trainer.close()
    return run_dir


class Trainer:
    """One run: environments, agent, replay, metrics and the counters that tie them together."""

    def __init__(
        self, config: Config, run_dir: Path, *, resume: bool = False, checkpoint: Path | None = None
    ) -> None:
        self.config, self.run_dir = config, run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        self.envs = make_envs(config)
        self.obs, self.action = describe_spaces(
            self.envs.single_observation_space, self.envs.single_action_space, config
        )
        self.agent = build_agent(config, self.obs, self.action)
        self.replay = self._make_replay()
        self.driver = Driver(
            self.envs, self.obs, self.action, config.seed, self.replay.add, self._on_episode
        )
        self.step = 0
        self.learning_from: int | None = None
        self.policy_state = self.agent.initial(self.driver.num)
        streams = np.random.SeedSequence(config.seed).spawn(2)
        self.sample_rng, self.prefill_rng = (np.random.default_rng(s) for s in streams)
        self.means, self.episodes = Mean(), EpisodeStats()
        self._stop = False
        source = checkpoint or (latest_checkpoint(run_dir / "checkpoints") if resume else None)
        if source is not None:
            self._load(source)
        else:
            self.driver.start()
        save_yaml(config, run_dir / "config.yaml")
        self.logger = MetricsLogger(run_dir, resume_step=self.step if resume else None)
        self._batch: dict[str, np.ndarray] | None = None

    def _make_replay(self) -> Replay:
        c = self.config
        specs = {s.name: RowSpec(s.shape, s.dtype, s.low, s.high) for s in self.obs}
        specs["action"] = RowSpec((self.action.size,), "float32")
        # Going back to any checkpoint that is kept is exact; the last step may overshoot by every environment.
        slack = c.train.keep_checkpoints * (c.train.checkpoint_every_steps + c.train.num_envs)
        return Replay(self.run_dir / "replay", specs, c.train.num_envs, c.replay, slack)

    def run(self) -> None:
        """Act and learn until the configured number of steps, or until interrupted."""
        from tqdm import tqdm

        total = self.config.train.steps
        with _interruptible(self), tqdm(total=total, initial=self.step, unit="step") as bar:
            self._clock = (time.monotonic(), self.step, self.agent.num_updates)
            while self.step < total and not self._stop:
                before = self.step
                self._tick()
                bar.update(self.step - before)
                self._show(bar)
        self.save()
        if self._stop:
            raise KeyboardInterrupt
        self._film()

    def _tick(self) -> None:
        """One step of every environment, with the updates that are due while they run."""
        t = self.config.train
        self.driver.send(self._act())
        for _ in range(self._updates_due()):
            self._update()
        before, self.step = self.step, self.step + self.driver.receive()
        if self._passed(before, t.log_every_steps):
            self._log()
        if self._passed(before, t.eval_every_steps):
            self._evaluate()
        if self._passed(before, t.video_every_steps):
            self._film()
        if self._passed(before, t.checkpoint_every_steps):
            self.save()

    def _passed(self, before: int, every: int) -> bool:
        return bool(every) and before // every != self.step // every

    def _act(self) -> np.ndarray:
        if self.learning_from is None:
            if self.step < self.config.train.prefill_steps or not self.replay.can_sample():
                return self.action.random(self.prefill_rng, self.driver.num)
            self.learning_from = self.step
        obs = to_tensors(self.driver.obs, self.obs, self.driver.is_first, self.agent.device)
        action, self.policy_state = self.agent.policy(obs, self.policy_state, "explore")
        return action.cpu().numpy()

    def _updates_due(self) -> int:
        """Updates the schedule asks for by now, less those made; a function of counters, so resuming is exact."""
        if self.learning_from is None:
            return 0
        t = self.config.train
        due = t.pretrain_updates + int((self.step - self.learning_from) / t.steps_per_update)
        return max(0, due - self.agent.num_updates)

    def _update(self) -> None:
        self._batch = self.replay.sample(self.sample_rng, self._batch)
        keys = [s.name for s in self.obs] + list(_BATCH_KEYS)
        batch = {k: torch.from_numpy(self._batch[k]).to(self.agent.device) for k in keys}
        metrics = self.agent.train_step(batch)
        self.means.add(metrics)
        # Looking at a loss waits for the device; on the CPU it is free.
        if self.agent.device.type == "cpu" or self.agent.num_updates % 100 == 0:
            self._check_finite(metrics)

    def _check_finite(self, metrics: dict[str, Tensor]) -> None:
        bad = [k for k, v in metrics.items() if k.startswith("loss/") and not v.isfinite()]
        if bad and self._batch is not None:
            path = self.run_dir / "nonfinite-batch.npz"
            np.savez_compressed(path, **self._batch)  # type: ignore[arg-type]
            raise NonFiniteLoss(
                f"Loss {', '.join(sorted(bad))} is not finite at step {self.step}, update "
                f"{self.agent.num_updates}. The batch is in {path}; the last good checkpoint is "
                f"{latest_checkpoint(self.run_dir / 'checkpoints')}. Lower the learning rate, or use float32."
            )

    def _on_episode(self, info: dict[str, Any]) -> None:
        if "worker_failed" not in info:
            self.episodes.add(info["return"], info["length"], info.get("success"), info.get("spl"))

    def stop(self) -> None:
        """Let `run` end after the current step, with a checkpoint and KeyboardInterrupt."""
        self._stop = True

    def _log(self) -> dict[str, float]:
        """Write the metrics since the last time; returns them."""
        now = (time.monotonic(), self.step, self.agent.num_updates)
        seconds = max(now[0] - self._clock[0], 1e-9)
        values = {**self.means.pop(), **self.episodes.means(), "updates": float(now[2])}
        values["speed/steps_per_s"] = (now[1] - self._clock[1]) / seconds
        values["speed/updates_per_s"] = (now[2] - self._clock[2]) / seconds
        restarts = getattr(self.envs, "restarts", None)
        if restarts is not None:
            values["env/worker_restarts"] = float(np.sum(restarts))
        self.logger.log(self.step, values)
        self._clock = now
        return values

    def _film(self) -> None:
        """Videos of what the world model imagines beside what happened, one for each image."""
        from dreamer_nav.imagination import open_loop_videos

        for name, frames in open_loop_videos(self.agent, self.replay).items():
            self.logger.video(self.step, f"open_loop_{name}", frames, fps=5)

    def _show(self, bar: Any) -> None:
        shown: dict[str, int | str] = {"updates": self.agent.num_updates}
        means = self.episodes.means()
        for key, label in (("episode/success_rate", "success"), ("episode/return", "return")):
            if key in means:
                shown[label] = f"{means[key]:.2f}"
        bar.set_postfix(shown, refresh=False)

    def _evaluate(self) -> None:
        from dreamer_nav.evaluate import EPISODE_SEED, evaluate_agent
        from dreamer_nav.runs import build_env

        c = self.config
        results = evaluate_agent(
            self.agent,
            lambda: build_env(c, **c.eval.env),
            episodes=c.train.eval_episodes,
            seed=EPISODE_SEED,
            sample_actions=c.eval.sample_actions,
        )
        measures: dict[str, list[float]] = {}
        for result in results:
            for name, value in result.measures.items():
                measures.setdefault(f"eval/{name}", []).append(float(value))
        self.logger.log(self.step, {k: float(np.mean(v)) for k, v in measures.items()})

    def save(self) -> Path:
        """Write a checkpoint from which training goes on bit for bit."""
        self.replay.flush()
        tensors = {f"{AGENT_PREFIX}{k}": v for k, v in self.agent.state_dict().items()}
        tensors |= _pack_policy(self.policy_state)
        tensors["generator"] = self.agent.generator.get_state()
        meta = {
            "step": self.step,
            "learning_from": self.learning_from,
            "config": to_dict(self.config),
            "obs": [s.to_json() for s in self.obs],
            "action": self.action.to_json(),
            "driver": self.driver.state_dict(),
            "replay": self.replay.state_dict(),
            "sample_rng": rng_state(self.sample_rng),
            "prefill_rng": rng_state(self.prefill_rng),
            "means": self.means.state_dict(),
            "episodes": self.episodes.state_dict(),
        }
        folder = self.run_dir / "checkpoints"
        return save_checkpoint(folder, self.step, tensors, meta, self.config.train.keep_checkpoints)

    def _load(self, path: Path) -> None:
        tensors, meta = load_checkpoint(path)
        self.agent.load_weights(agent_tensors(tensors))
        self.policy_state = _unpack_policy(tensors, self.agent)
        self.agent.generator.set_state(tensors["generator"])
        self.step, self.learning_from = meta["step"], meta["learning_from"]
        set_rng_state(self.sample_rng, meta["sample_rng"])
        set_rng_state(self.prefill_rng, meta["prefill_rng"])
        self.means.load_state_dict(meta["means"])
        self.episodes.load_state_dict(meta["episodes"])
        self.replay.load_state_dict(meta["replay"])
        self.driver.load_state_dict(meta["driver"])

    def close(self) -> None:
        """Stop the environments and close the files."""
        self.envs.close()
        self.replay.close()
        if hasattr(self, "logger"):
            self.logger.close()


def _pack_policy(state: PolicyState) -> dict[str, Tensor]:
    latent = {f"policy.{k}": v for k, v in state.latent._asdict().items()}
    return {**latent, "policy.action": state.action}


def _unpack_policy(tensors: dict[str, Tensor], agent: Agent) -> PolicyState:
    latent = State(*(tensors[f"policy.{k}"].to(agent.device) for k in State._fields))
    return PolicyState(latent, tensors["policy.action"].to(agent.device))


@contextmanager
def _interruptible(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the loop after the current step, so that the checkpoint is whole."""

    def stop(signum: int, frame: object) -> None:
        if trainer._stop:
            raise KeyboardInterrupt
        trainer.stop()

    try:
        old = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)
