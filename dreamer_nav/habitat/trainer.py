"""`habitat_baselines.trainer_name=dreamer`: trains and evaluates our agent from habitat-baselines' configuration."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from habitat import logger
from habitat_baselines.common.base_trainer import BaseRLTrainer
from habitat_baselines.common.baseline_registry import baseline_registry
from habitat_baselines.common.tensorboard_utils import get_writer
from habitat_baselines.rl.ddppo.ddp_utils import (
    EXIT,
    get_distrib_size,
    is_slurm_batch_job,
    requeue_job,
    resume_state_filename,
)
from habitat_baselines.utils.common import get_checkpoint_id
from omegaconf import OmegaConf

from dreamer_nav.failures import UsageError
from dreamer_nav.habitat.evaluation import evaluate_checkpoint, make_video_folder
from dreamer_nav.habitat.failures import user_errors
from dreamer_nav.habitat.settings import run_config, run_folder
from dreamer_nav.habitat.training import HabitatRun, MeasureWindow
from dreamer_nav.habitat.weights import list_agents, read_file, save_agent, write_file
from dreamer_nav.process import configure_process

__all__ = ["DreamerTrainer"]


@baseline_registry.register_trainer(name="dreamer")
class DreamerTrainer(BaseRLTrainer):
    """Trains our agent with our own loop and keeps habitat-baselines' names of files, scalars and settings.

    `checkpoint_folder` holds `ckpt.N.pth`, `latest.pth` and `.habitat-resume-state.pth`; beside it
    `<checkpoint_folder>.run` is a run of ours: replay, exact checkpoints, metrics. Training goes on from the
    resume state if there is one.
    """

    supported_tasks = ["Nav-v0"]  # noqa: RUF012
    config: Any

    def __init__(self, config: Any = None) -> None:
        from sim_adapters.habitat.versions import check_versions

        with user_errors():
            check_versions()
            try:
                super().__init__(config)
            except RuntimeError as error:  # its checks of num_updates and num_checkpoints
                raise UsageError(" ".join(str(error).split())) from error
            if "dreamer" not in config.habitat_baselines:
                raise UsageError(
                    "trainer_name=dreamer needs the settings habitat_baselines.dreamer: in the YAML, "
                    "`- /habitat_baselines: dreamer_config_base` (docs/habitat.md)"
                )
            if get_distrib_size()[2] > 1:
                raise UsageError(
                    "trainer_name=dreamer trains in one process; start it without torchrun or srun's tasks"
                )

    # -------------------------------------------------------------- training

    def train(self) -> None:
        """Train until `total_num_steps`; SIGTERM and Ctrl-C leave a resume state, from which the next call goes on."""
        with user_errors():
            self._train()

    def _train(self) -> None:
        resume = self._read_resume_state()
        self._add_preemption_signal_handlers()
        theirs = self.config.habitat_baselines
        self._folder = Path(theirs.checkpoint_folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        logger.add_filehandler(theirs.log_file)
        self._say_where()
        self._settings = run_config(self.config)
        self._window = MeasureWindow(int(theirs.rl.ppo.reward_window_size))
        self._written, self._seconds_before, run_id = 0, 0.0, None
        checkpoint = None
        if resume is not None:
            checkpoint = self._adopt(resume)
            run_id = resume["requeue_stats"]["run_id"]
        configure_process(self._settings.threads)
        with get_writer(
            self.config,
            resume_run_id=run_id,
            flush_secs=self.flush_secs,
            purge_step=int(self.num_steps_done),
        ) as self._writer:
            run = HabitatRun(self._settings, run_folder(self.config), self, checkpoint)
            self._begun = time.time()
            try:
                run.run()
            except KeyboardInterrupt:
                self._leave(run)
            finally:
                run.close()

    def _leave(self, run: HabitatRun) -> None:
        """After a signal: everything is saved."""
        logger.info(f"Stopped at step {run.step}: the same command goes on from there")
        requeue_job()
        if not is_slurm_batch_job():
            sys.exit(130)

    def on_episode(self, info: Mapping[str, Any]) -> None:
        """Count an episode; see `Listener`."""
        self._window.add(info)

    def on_step(self, run: HabitatRun) -> None:
        """Write the checkpoints that are due, and stop if a signal of the batch system says so."""
        self.num_steps_done, self.num_updates_done = run.step, run.agent.num_updates
        while self.should_checkpoint():
            self._agent, self._written = run.agent, self._written + 1
            extra = {"step": run.step, "wall_time": self._seconds()}
            self.save_checkpoint(f"ckpt.{self._written - 1}.pth", extra)
        if EXIT.is_set():
            run.stop()

    def on_log(self, run: HabitatRun, values: Mapping[str, float]) -> None:
        """Write the scalars under the names that PPO gives them."""
        means, step = self._window.means(), run.step
        fps = step / max(self._seconds(), 1e-9)
        scalars = {"perf/fps": fps, "perf/updates_per_s": values["speed/updates_per_s"]}
        if "reward" in means:
            scalars["reward"] = means.pop("reward")
        scalars |= {f"metrics/{name}": value for name, value in means.items()}
        own = ("episode/", "speed/", "env/", "updates")
        scalars |= {f"learner/{k}": v for k, v in values.items() if not k.startswith(own)}
        scalars |= {k: v for k, v in values.items() if k.startswith("env/")}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        logger.info(f"update: {run.agent.num_updates}\tfps: {fps:.3f}\tNum frames {step}")
        shown = {"reward": scalars.get("reward"), **means}
        text = "  ".join(f"{k}: {v:.3f}" for k, v in shown.items() if v is not None)
        logger.info(f"Last episodes: {text}")

    def on_save(self, run: HabitatRun, checkpoint: Path) -> None:
        """Write the resume state that belongs to a checkpoint of the run, and `latest.pth`."""
        stats = {
            "count_checkpoints": self._written,
            "num_steps_done": run.step,
            "num_updates_done": run.agent.num_updates,
            "_last_checkpoint_percent": self._last_checkpoint_percent,
            "prev_time": self._seconds(),
            "window_episode_stats": self._window.state_dict(),
            "run_id": self._writer.get_run_id(),
        }
        state = {"config": self._plain(), "checkpoint": checkpoint.name, "requeue_stats": stats}
        self._write(
            self._folder / "latest.pth", run.agent, {"step": run.step, "wall_time": self._seconds()}
        )
        write_file(Path(resume_state_filename(self.config)), state)

    def should_checkpoint(self) -> bool:
        """Whether the next `ckpt.N.pth` is due: `num_checkpoints` of them at equal distances, the last at the end."""
        theirs = self.config.habitat_baselines
        if theirs.num_checkpoints != -1:
            done = min(1.0, self.percent_done())
            return int(done * theirs.num_checkpoints + 1e-9) > self._written
        return self.num_updates_done // theirs.checkpoint_interval > self._written

    def save_checkpoint(self, file_name: str, extra_state: Mapping[str, Any] | None = None) -> None:
        """Write the agent to `checkpoint_folder`/`file_name` and to `latest.pth`."""
        for name in (file_name, "latest.pth"):
            self._write(self._folder / name, self._agent, extra_state or {})
        callback = self.config.habitat_baselines.on_save_ckpt_callback
        if callback is not None:
            hydra.utils.call(callback, save_file_path=str(self._folder / file_name))

    def load_checkpoint(self, checkpoint_path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What a checkpoint file holds, on the CPU."""
        return read_file(Path(checkpoint_path))

    def _write(self, path: Path, agent: Any, extra: Mapping[str, Any]) -> None:
        save_agent(path, agent, self._settings, self._plain(), extra)

    def _plain(self) -> Any:
        return OmegaConf.to_container(self.config, resolve=True)

    def _seconds(self) -> float:
        return time.time() - self._begun + self._seconds_before

    def _read_resume_state(self) -> dict[str, Any] | None:
        """The resume state, whose configuration is taken over unless `load_resume_state_config` is off."""
        path = Path(resume_state_filename(self.config))
        run = run_folder(self.config)
        if not path.is_file():
            if (run / "replay").exists():
                raise UsageError(
                    f"{run} holds a run, and {path}, which says where it stood, is gone: delete the one or "
                    "restore the other, or choose another habitat_baselines.checkpoint_folder"
                )
            return None
        state = read_file(path)
        if "requeue_stats" not in state or "checkpoint" not in state:
            raise UsageError(
                f"{path} is of another trainer: choose another habitat_baselines.checkpoint_folder"
            )
        logger.info(f"Loading resume state: {path}")
        self.config = self._get_resume_state_config_or_new_config(OmegaConf.create(state["config"]))
        return state

    def _adopt(self, resume: Mapping[str, Any]) -> Path:
        """Go on counting; returns the run's checkpoint to go on from."""
        stats = resume["requeue_stats"]
        self.num_steps_done = stats["num_steps_done"]
        self.num_updates_done = stats["num_updates_done"]
        self._written, self._seconds_before = stats["count_checkpoints"], stats["prev_time"]
        self._window.load_state_dict(stats["window_episode_stats"])
        return run_folder(self.config) / "checkpoints" / resume["checkpoint"]

    def _say_where(self) -> None:
        """Without habitat_sim a configuration's usual simulator may not be this one."""
        habitat = self.config.habitat
        logger.info(f"Simulator {habitat.simulator.type}, episodes {habitat.dataset.data_path}")

    # ------------------------------------------------------------ evaluation

    def eval(self) -> None:
        """Evaluate `eval_ckpt_path_dir`: one file, or every `ckpt.N.pth` that is in a folder by now.

        Unlike habitat-baselines' own, it does not wait for checkpoints to come, and a second evaluation of
        a folder starts from its first again.
        """
        with user_errors():
            self._eval()

    def _eval(self) -> None:
        theirs = self.config.habitat_baselines
        path = Path(theirs.eval_ckpt_path_dir)
        make_video_folder(self.config)
        found = [(get_checkpoint_id(str(path)) or 0, path)] if path.is_file() else list_agents(path)
        if not found:
            what = "holds no ckpt.N.pth" if path.is_dir() else "does not exist"
            raise UsageError(
                f"{path} {what}: train first, or set habitat_baselines.eval_ckpt_path_dir to a "
                "checkpoint file or a folder of them"
            )
        logger.add_filehandler(theirs.log_file)
        self._say_where()
        with get_writer(self.config, flush_secs=self.flush_secs) as writer:
            for number, file in found:
                self._eval_checkpoint(str(file), writer, number)

    def _eval_checkpoint(
        self, checkpoint_path: str, writer: Any, checkpoint_index: int = 0
    ) -> None:
        evaluate_checkpoint(self.config, Path(checkpoint_path), checkpoint_index, writer)
