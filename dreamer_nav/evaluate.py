"""Evaluation: an agent and its baselines on the same fixed, seeded episodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym

from dreamer_nav import __version__
from dreamer_nav.agent import Agent
from dreamer_nav.atomic import write_report
from dreamer_nav.config import Config
from dreamer_nav.episode_video import EpisodeRecorder
from dreamer_nav.failures import UsageError
from dreamer_nav.presets import to_dict
from dreamer_nav.report import (
    format_scenes,
    format_table,
    report_json,
    scenes_json,
    summarize,
)
from dreamer_nav.rollouts import (
    AgentPolicy,
    EpisodeResult,
    EpisodewisePolicy,
    Policy,
    Rollout,
    UniformPolicy,
    fixed_episodes,
    run_episodes,
)
from dreamer_nav.run_scores import evaluated_env, published_task, score_of
from dreamer_nav.runs import build_env, describe_spaces, load_run
from dreamer_nav.score_report import format_report, score_report
from dreamer_nav.spaces import ActionSpec, ObsSpec

__all__ = [
    "EpisodeResult",
    "Subject",
    "baselines_subject",
    "check_spaces",
    "evaluate_agent",
    "evaluate_policy",
    "run_subject",
]

EPISODE_SEED = 0  # the same for every run, so that runs of different seeds meet the same episodes


def evaluate_agent(
    agent: Agent,
    make_env: Callable[[], gym.Env],
    *,
    episodes: int,
    seed: int,
    sample_actions: bool,
    num_envs: int = 8,
    on_step: Callable[[Rollout], None] | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Play a fixed set of episodes with the agent and leave the agent as it was.

    Args:
        agent: may be in the middle of its training.
        make_env: builds one environment in this process.
        episodes: how many; from the environment's own list, its first ones.
        seed: of the episodes, their noise and the agent's sampling.
        sample_actions: sample the actions instead of taking their mode.
        num_envs: environments in lockstep; changes the speed, not which episodes are played.
        on_step, on_episode: see `run_episodes`.

    Raises:
        ValueError: more episodes than the environment's list has.
    """
    return run_episodes(
        AgentPolicy(agent, sample_actions),
        make_env,
        episodes=episodes,
        seed=seed,
        num_envs=num_envs,
        on_step=on_step,
        on_episode=on_episode,
    )


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a policy, what it reads and does, and where it comes from.

    Attributes:
        policy: chooses the actions; None to play the baselines alone.
        config: of the run that trained it; its environment and `eval` section say what is played.
        obs, action: what the environment must give and take; None: anything.
        title: for the heading.
        origin: for the JSON file.
        folder: where the figures and videos go; None for nowhere but the files that are asked for.
        name: of its column.
    """

    policy: Policy | None
    config: Config
    obs: tuple[ObsSpec, ...]
    action: ActionSpec | None
    step: int
    title: str
    origin: Mapping[str, Any]
    sample_actions: bool
    folder: Path | None = None
    name: str = "dreamer"


def run_subject(path: Path, device: str | None = None) -> Subject:
    """A run's newest checkpoint, or one checkpoint.

    Args:
        path: a run's folder, or a checkpoint's.
        device: where the agent computes; None for the run's.

    Raises:
        FileNotFoundError, CheckpointError: no such run or checkpoint.
    """
    run = load_run(Path(path), device)
    sample = run.config.eval.sample_actions
    return Subject(
        policy=AgentPolicy(run.agent, sample),
        config=run.config,
        obs=run.agent.obs,
        action=run.agent.action,
        step=run.step,
        title=f"{run.run_dir} at step {run.step:,}",
        origin={"run": str(run.run_dir), "checkpoint": f"checkpoints/step-{run.step:09d}"},
        sample_actions=sample,
        folder=run.run_dir,
    )


def baselines_subject(preset: str, config: Config) -> Subject:
    """Nobody but the baselines, in the evaluation of a configuration; `preset` is its name."""
    return Subject(
        policy=None,
        config=config,
        obs=(),
        action=None,
        step=0,
        title=f"the baselines of {preset}",
        origin={"preset": preset},
        sample_actions=False,
    )


@dataclass(frozen=True)
class _Task:
    """What is evaluated: in which environment, how many episodes, beside which baselines."""

    config: Config  # the run's, with the environment of the evaluation
    episodes: int
    baselines: Mapping[str, Callable[[gym.Env], Any]]  # they look at no picture; all but random

    def make_env(self) -> gym.Env:
        return build_env(self.config)

    def make_blind_env(self) -> gym.Env:
        """An environment for policies that look at no picture: without the cost of rendering."""
        env = self.make_env()
        stop = getattr(env.unwrapped, "stop_rendering", None)
        if stop is not None:
            stop()
        return env

    @property
    def title(self) -> str:
        env = self.config.env
        keys = ("name", "tier", "task", "game", "id", "split")
        return " ".join(str(env[key]) for key in keys if env.get(key))


def evaluate_policy(
    subject: Subject,
    *,
    others: Mapping[str, Policy] | None = None,
    episodes: int | None = None,
    env_overrides: Mapping[str, Any] | None = None,
    episodes_file: Path | None = None,
    scenes: Sequence[str] = (),
    video: bool = False,
    json_path: Path | None = None,
    baselines: bool = True,
) -> dict[str, Any]:
    """Play the benchmark with a policy and its baselines, and print the table.

    Args:
        subject: what is evaluated; `run_subject` for a run.
        others: policies that see the same and play the same episodes, by name.
        episodes: how many; None for the whole of `episodes_file`, else the run's `eval.episodes`
            or as many as the environment's list has.
        env_overrides: settings of the environment on top of the run's `eval.env`.
        episodes_file: a PointNav-v1 file to use instead of the environment's episodes.
        scenes: play `episodes` in each of these, the environment's option `scene`; the figures are of all together
            and of each.
        video: record the first episodes; see `EpisodeRecorder`.
        json_path: where the figures go besides the subject's folder, as eval/<set>-<step>.json.
        baselines: play the same episodes with the random, greedy and shortest-path policies
            (where there are no goals, random alone).

    Returns:
        What the JSON file holds.

    Raises:
        UsageError: an environment that can't be built or isn't the policy's, too many episodes,
            videos of a policy without a folder.
        FileNotFoundError: no such episode file.
    """
    if video and subject.folder is None:
        raise UsageError("videos go into a run's folder; evaluate the run to get some")
    overrides = dict(env_overrides or {})
    each = [{**overrides, "scene": scene} for scene in scenes] or [overrides]
    tasks = [_choose_task(subject, settings, episodes_file, episodes) for settings in each]
    recorder = EpisodeRecorder() if video else None
    own = {} if subject.policy is None else {subject.name: subject.policy}
    played = [_play({**own, **(others or {})}, task, baselines, recorder) for task in tasks]
    results = _together(played)
    summaries = {name: summarize(episodes) for name, episodes in results.items()}
    report = {**_context(subject, tasks[0]), **report_json(summaries, results)}
    scores = None if scenes else _scores(subject, tasks[0], report)
    if scores is not None:
        report["scores"] = scores
    title = " ".join([tasks[0].title, *scenes])
    heading = f"{title}: {subject.title}, {sum(task.episodes for task in tasks)} episodes"
    print(f"{heading}, mean [95% interval]\n\n{format_table(summaries)}\n")
    if scenes:
        by_scene = {
            scene: {name: summarize(episodes) for name, episodes in one.items()}
            for scene, one in zip(scenes, played, strict=True)
        }
        report["scenes"] = scenes_json(by_scene)
        print(f"{format_scenes(by_scene, summaries)}\n")
    if scores is not None:
        print(f"{format_report(scores, aggregates=False)}\n")
    written = [] if json_path is None else [Path(json_path)]
    label = _label(
        tasks[0].config.env, {**overrides, "scene": "+".join(scenes)} if scenes else overrides
    )
    name = f"{label}-{subject.step:09d}"
    if subject.folder is not None:
        output = subject.folder / "eval" / f"{name}.json"
        output.parent.mkdir(exist_ok=True)
        written.insert(0, output)
    for file in written:
        write_report(file, report)
    if recorder is not None and subject.folder is not None:
        written += recorder.write(subject.folder / "videos", name)
    print("\n".join(f"Written: {file}" for file in written))
    return report


def _together(
    played: Sequence[Mapping[str, list[EpisodeResult]]],
) -> dict[str, list[EpisodeResult]]:
    """The episodes of several tasks as those of one, by policy, numbered on."""
    results: dict[str, list[EpisodeResult]] = {}
    for one in played:
        for name, episodes in one.items():
            there = results.setdefault(name, [])
            first = len(there)
            there += [replace(episode, index=first + episode.index) for episode in episodes]
    return results


def _choose_task(
    subject: Subject, overrides: dict[str, Any], episodes_file: Path | None, episodes: int | None
) -> _Task:
    from sim_adapters.episodes import EpisodeFileError
    from sim_adapters.nav_baselines import baseline_makers

    if episodes_file is not None:
        overrides["episodes"] = str(Path(episodes_file).absolute())
    settings = {**subject.config.env, **subject.config.eval.env}
    if overrides.get("name", settings["name"]) != settings["name"]:
        settings = {}  # options of one environment mean nothing to another
    settings |= overrides
    config = replace(subject.config, env=settings)
    try:
        env = build_env(config)
    except EpisodeFileError:
        raise
    except ValueError as error:
        raise UsageError(f"The environment of the evaluation cannot be built: {error}") from error
    try:
        if subject.action is not None:
            check_spaces(subject.obs, subject.action, subject.config, env)
        there = fixed_episodes(env)
        baselines = baseline_makers(env)
    finally:
        env.close()
    if episodes is None:
        whole_file = episodes_file is not None and there is not None
        episodes = there if whole_file else min(subject.config.eval.episodes, there or 2**31)
    assert episodes is not None
    if there is not None and episodes > there:
        raise UsageError(
            f"{episodes} episodes were asked for and the set holds {there}; "
            f"ask for at most {there}, or give another set (--episodes-file)."
        )
    return _Task(config, episodes, baselines)


def check_spaces(
    wanted: Sequence[ObsSpec], taken: ActionSpec, config: Config, env: gym.Env
) -> None:
    """Refuse an environment that an agent was not built for; what it gives besides is no matter.

    Args:
        wanted: the agent's observations.
        taken: the agent's actions.
        config: of the run that trained it.
        env: the environment.

    Raises:
        UsageError: one sentence on what does not fit.
    """
    try:
        obs, action = describe_spaces(env.observation_space, env.action_space, config)
    except ValueError as error:
        raise UsageError(str(error)) from error
    given = {spec.name: spec for spec in obs}
    for spec in wanted:
        if spec.name not in given:
            raise UsageError(
                f"The agent needs the observation {spec.name!r}; "
                f"the environment gives {', '.join(given)}."
            )
        if given[spec.name] != spec:
            raise UsageError(f"The agent was trained on {spec}; this is {given[spec.name]}.")
    if action != taken:
        raise UsageError(f"The agent gives {taken}; the environment takes {action}.")


def _label(env: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """A file name that tells episode sets apart: val, val-tier_apartment, episodes_mine."""
    parts = [str(env.get("split", env["name"]))]
    for key, value in sorted(overrides.items()):
        if key == "episodes":
            value = Path(value).name.removesuffix(".gz").removesuffix(".json")
        if key not in ("name", "split"):
            parts.append(f"{key}_{value}")
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))[:100]


def _baselines(task: _Task) -> dict[str, Policy]:
    """Policies that look at no picture."""
    policies: dict[str, Policy] = {
        name: EpisodewisePolicy(make) for name, make in task.baselines.items()
    }
    policies["random"] = UniformPolicy()
    return policies


def _play(
    seeing: Mapping[str, Policy], task: _Task, baselines: bool, recorder: EpisodeRecorder | None
) -> dict[str, list[EpisodeResult]]:
    """Everyone's results; the first of the seeing is recorded."""
    from tqdm import tqdm

    results: dict[str, list[EpisodeResult]] = {}
    for name, policy in {**seeing, **(_baselines(task) if baselines else {})}.items():
        sees = name in seeing
        recorded = recorder if not results else None
        with tqdm(total=task.episodes, desc=name, unit="episode", leave=False) as bar:
            results[name] = run_episodes(
                policy,
                task.make_env if sees else task.make_blind_env,
                episodes=task.episodes,
                seed=EPISODE_SEED,
                num_envs=8 if sees else 1,
                on_step=recorded.on_step if recorded is not None else None,
                on_episode=lambda result, bar=bar: bar.update(),  # type: ignore[misc]
            )
    return results


def _context(subject: Subject, task: _Task) -> dict[str, Any]:
    """What the figures are of."""
    return {
        "version": __version__,
        **subject.origin,
        "step": subject.step,
        "env": task.config.env,
        "seed": EPISODE_SEED,
        "sample_actions": subject.sample_actions,
        "config": to_dict(subject.config),
    }


def _scores(subject: Subject, task: _Task, report: dict[str, Any]) -> dict[str, Any] | None:
    """A run's return beside the published ones; None where none are of this environment."""
    if subject.folder is None or task.config.env != evaluated_env(subject.config):
        return None
    try:
        published = published_task(task.config.env)
    except UsageError:
        return None
    return score_report([score_of(subject.folder, subject.config.seed, published, report)])
