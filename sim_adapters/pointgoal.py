"""The PointGoal navigation task, once, for every simulator.

Frame: z up, metres; heading in radians counter-clockwise from +x, so that a left turn is
positive. Reward, measures and the `pointgoal` sensor follow habitat-lab 0.3.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Protocol, Sequence, Tuple, runtime_checkable

import gymnasium
import numpy as np
from gymnasium import spaces

from sim_adapters.episodes import Episode, wrap_angle
from sim_adapters.nav_actions import Actions, ActuationNoise, DiscreteActions, VelocityActions
from sim_adapters.nav_measures import Measures

__all__ = [
    "ActuationNoise",
    "Episode",
    "EpisodeSource",
    "FixedEpisodes",
    "Measures",
    "NavSimulator",
    "NavigationTask",
    "PointGoalEnv",
    "pointgoal",
]


class NavSimulator(Protocol):
    """What a navigation simulator offers to `PointGoalEnv`.

    A simulator with sensor noise also has `seed(seed: int) -> None`, called at every reset, so
    that an episode is a function of its seed.
    """

    #: images only: "depth" float32 (H, W, 1) in metres and/or "rgb" uint8 (H, W, 3)
    observation_space: spaces.Dict

    def load_scene(self, scene_id: str) -> None:
        """Make `scene_id` the current scene; returns at once if it is already."""

    def set_pose(self, position: Sequence[float], heading: float) -> None:
        """Put the robot at `position` (x, y, z), facing `heading`; never collides."""

    @property
    def position(self) -> np.ndarray:
        """The robot's position, float64 (3,), z the height of the floor."""

    @property
    def heading(self) -> float:
        """The robot's heading."""

    def move(self, forward_m: float, turn_rad: float) -> bool:
        """Turn, then drive forward (negative: back); return whether the robot touched something.

        Without sliding a robot that touches something stays where it stopped.
        """

    def observe(self) -> Dict[str, np.ndarray]:
        """Render the images of `observation_space` at the current pose."""

    def set_goal(self, position: Sequence[float]) -> None:
        """Fix the goal of `distance_to_goal` and `shortest_path` (one distance field a goal)."""

    def distance_to_goal(self, position: Sequence[float]) -> float:
        """Geodesic distance in metres for this robot's radius; inf if it cannot get there.

        Finite wherever `move` can take the robot from a start whose distance is finite.
        """

    def shortest_path(self, position: Sequence[float]) -> np.ndarray:
        """Waypoints from `position` to the goal, both included, float64 (n, 3)."""

    def close(self) -> None:
        """Release the simulator; a second call does nothing."""


@runtime_checkable
class NavigationTask(Protocol):
    """What baselines, films and evaluation ask of a navigation environment: `PointGoalEnv` or another.

    Its observations have "pointgoal" where a policy is to steer by it, and the info of an episode's
    last step has `Measures.KEYS`.
    """

    #: moves the robot; for planners, within the environment's own process
    simulator: NavSimulator
    #: the current episode, None before the first reset
    episode: Optional[Episode]

    @property
    def actions(self) -> Actions:
        """What the robot can do."""

    @property
    def success_distance_m(self) -> float:
        """How near the goal is there."""

    def has_arrived(self, position: Sequence[float], distance_m: float) -> bool:
        """Whether `position`, at geodesic `distance_m` from the goal, is near enough to it."""

    def stop_rendering(self) -> None:
        """Give black pictures from now on where that saves time, for policies that look at none."""


class EpisodeSource(Protocol):
    """Where episodes come from."""

    def __call__(self, rng: np.random.Generator) -> Episode:
        """Return the next episode, a function of `rng` alone for a source that samples."""


class FixedEpisodes:
    """Goes through a list of episodes in order, again from the first after the last.

    `reset(seed=s)` goes on from episode s modulo the number of episodes and
    `reset(options={"index": i})` from episode i, so that both name one episode.
    """

    def __init__(self, episodes: Sequence[Episode]) -> None:
        """Keep `episodes`, at least one."""
        if not episodes:
            raise ValueError("FixedEpisodes needs at least one episode, got none")
        self._episodes = list(episodes)
        self._next = 0

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._episodes)

    def seek(self, index: int) -> None:
        """Make episode `index` the next one.

        Raises:
            IndexError: there is no such episode.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"episode index must be in [0, {len(self)}), got {index}")
        self._next = index

    def __call__(self, rng: np.random.Generator) -> Episode:
        """Return the next episode of the list; `rng` is not used."""
        del rng
        episode = self._episodes[self._next]
        self._next = (self._next + 1) % len(self)
        return episode


def pointgoal(position: Sequence[float], heading: float, goal: Sequence[float]) -> np.ndarray:
    """Return the goal in the robot's frame, float32 (2,) = (rho m, phi rad).

    rho is the horizontal distance and phi in (-pi, pi] the direction, positive to the left, as
    habitat-lab's `pointgoal_with_gps_compass`.
    """
    dx, dy = float(goal[0]) - float(position[0]), float(goal[1]) - float(position[1])
    phi = math.atan2(dy, dx) - float(heading)
    return np.array([math.hypot(dx, dy), wrap_angle(phi)], dtype=np.float32)


class PointGoalEnv(gymnasium.Env):
    """PointGoal navigation in any `NavSimulator`.

    Observations: the simulator's images and "pointgoal", float32 (2,), see `pointgoal`.

    Reward: geodesic progress in metres - `slack_reward`, + `success_reward` on success,
    - `collision_penalty` on a step that touched something.

    Args:
        simulator: moves the robot and renders.
        episodes: where episodes come from.
        actions: "discrete" (stop, forward, left, right) or "continuous", (v, w) in [-1, 1]^2.
        forward_m: step length of a discrete forward action.
        turn_deg: angle of a discrete turn.
        success_distance_m: how near is there; geodesic with `require_stop`, else planar.
        require_stop: whether the agent must say that it has arrived (Habitat: success is stop
            within `success_distance_m`, and stop always ends the episode) or the episode ends by
            itself on arrival (iGibson, 0.36 m; discrete actions are then forward, left, right).
        max_steps: the time limit, which truncates.
        slack_reward: cost of a step.
        success_reward: bonus on success.
        collision_penalty: cost of a step that touched something.
        max_speed_mps: continuous only, speed at v = 1.
        min_speed_mps: continuous only, speed at v = -1; 0 is Habitat's, -max_speed_mps iGibson's.
        max_turn_rate_dps: continuous only, turn rate at w = 1, degrees a second.
        step_s: continuous only, duration of an action.
        stop_speed_mps: continuous only; slower than this and `stop_turn_rate_dps` is stop.
        stop_turn_rate_dps: continuous only, degrees a second.
        noise: actuation noise, seeded by the episode; None for none.
        render_mode: None or "rgb_array".
    """

    metadata: Dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        simulator: NavSimulator,
        episodes: EpisodeSource,
        *,
        actions: str = "discrete",
        forward_m: float = 0.25,
        turn_deg: float = 30.0,
        success_distance_m: float = 0.2,
        require_stop: bool = True,
        max_steps: int = 500,
        slack_reward: float = 0.01,
        success_reward: float = 2.5,
        collision_penalty: float = 0.0,
        max_speed_mps: float = 0.25,
        min_speed_mps: float = 0.0,
        max_turn_rate_dps: float = 30.0,
        step_s: float = 1.0,
        stop_speed_mps: float = 0.025,
        stop_turn_rate_dps: float = 1.0,
        noise: Optional[ActuationNoise] = None,
        render_mode: Optional[str] = None,
    ) -> None:
        """Build the task around `simulator`."""
        if actions not in ("discrete", "continuous"):
            raise ValueError(f"actions must be 'discrete' or 'continuous', got {actions!r}")
        if not success_distance_m > 0 or max_steps < 1:
            raise ValueError(
                "success_distance_m must be > 0 and max_steps >= 1, "
                f"got {success_distance_m!r} and {max_steps!r}"
            )
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.simulator = simulator
        self.episodes = episodes
        self.success_distance_m = success_distance_m
        self.require_stop = require_stop
        self.max_steps = max_steps
        self.slack_reward = slack_reward
        self.success_reward = success_reward
        self.collision_penalty = collision_penalty
        self.noise = noise
        self.render_mode = render_mode
        self.actions: Actions
        if actions == "discrete":
            self.actions = DiscreteActions(
                forward_m=forward_m, turn_deg=turn_deg, with_stop=require_stop
            )
        else:
            self.actions = VelocityActions(
                min_speed_mps=min_speed_mps,
                max_speed_mps=max_speed_mps,
                max_turn_rate_dps=max_turn_rate_dps,
                step_s=step_s,
                with_stop=require_stop,
                stop_speed_mps=stop_speed_mps,
                stop_turn_rate_dps=stop_turn_rate_dps,
            )
        self.action_space = self.actions.space
        self.observation_space = self._build_observation_space()
        self.episode: Optional[Episode] = None
        self.measures: Optional[Measures] = None
        self._noise_rng = np.random.default_rng(0)
        self._ended = True
        self._observation: Dict[str, np.ndarray] = {}

    def _build_observation_space(self) -> spaces.Dict:
        images = dict(self.simulator.observation_space.spaces)
        pi = np.float32(math.pi)
        far = np.finfo(np.float32).max
        images["pointgoal"] = spaces.Box(
            np.array([0.0, -pi], np.float32), np.array([far, pi], np.float32), dtype=np.float32
        )
        return spaces.Dict(images)

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Start an episode; with `seed`, all of it (scene, start, goal, noise) follows from it.

        Args:
            seed: see above; None goes on with the random state there is.
            options: {"index": i} chooses episode i of a `FixedEpisodes`.

        Returns:
            The first observation, and info: "episode_id", "scene_id", "geodesic_distance" (m).

        Raises:
            ValueError: the goal cannot be reached from the start, or an unknown option.
        """
        super().reset(seed=seed)
        self._choose_episode(seed, dict(options or {}))
        episode = self.episodes(self.np_random)
        noise_seed, sensor_seed = (int(s) for s in self.np_random.integers(2**31, size=2))
        self._noise_rng = np.random.default_rng(noise_seed)
        self.simulator.load_scene(episode.scene_id)
        seed_sensors = getattr(self.simulator, "seed", None)
        if seed_sensors is not None:
            seed_sensors(sensor_seed)
        self.simulator.set_goal(episode.goal_position)
        self.simulator.set_pose(episode.start_position, episode.start_heading)
        position = self.simulator.position.tolist()
        distance = float(self.simulator.distance_to_goal(position))
        if not math.isfinite(distance):
            raise ValueError(
                f"episode {episode.episode_id!r} of scene {episode.scene_id!r}: no path from "
                f"{tuple(episode.start_position)} to {tuple(episode.goal_position)} "
                f"(geodesic distance {distance}); choose another episode"
            )
        self.episode = episode
        self.measures = Measures(position, distance)
        self._ended = False
        return self._observe(), {**self._names(episode), "geodesic_distance": distance}

    def _choose_episode(self, seed: Optional[int], options: Dict[str, Any]) -> None:
        index = options.pop("index", None)
        if options:
            raise ValueError(f"reset knows the option 'index' only, got {sorted(options)}")
        if isinstance(self.episodes, FixedEpisodes):
            if index is not None:
                self.episodes.seek(int(index))
            elif seed is not None:
                self.episodes.seek(seed % len(self.episodes))
        elif index is not None:
            raise ValueError("the option 'index' needs FixedEpisodes; these episodes are sampled")

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Take one action.

        Returns:
            Observation, reward, terminated (stop, or arrival without `require_stop`), truncated
            (time limit, never together with terminated) and info: `Measures.info` and the names
            of the episode.
        """
        if self._ended or self.measures is None or self.episode is None:
            raise RuntimeError("step() after the end of an episode or before reset(): call reset()")
        motions = self.actions.motions(action)
        collided = False
        for motion in motions or ():
            if self.noise is not None:
                motion = self.noise.apply(motion, self._noise_rng)
            collided = bool(self.simulator.move(*motion)) or collided
        position = self.simulator.position.tolist()
        distance = self._distance(position)
        stopped = motions is None
        may_succeed = stopped or not self.require_stop
        success = may_succeed and self.has_arrived(position, distance)
        progress = self.measures.update(position, distance, collided=collided, success=success)
        terminated = stopped or success
        truncated = not terminated and self.measures.steps >= self.max_steps
        self._ended = terminated or truncated
        info = {**self.measures.info(), **self._names(self.episode)}
        return (
            self._observe(),
            self._reward(progress, collided, success),
            terminated,
            truncated,
            info,
        )

    def _reward(self, progress_m: float, collided: bool, success: bool) -> float:
        reward = progress_m - self.slack_reward
        if collided:
            reward -= self.collision_penalty
        if success:
            reward += self.success_reward
        return reward

    def has_arrived(self, position: Sequence[float], distance_m: float) -> bool:
        """Whether `position`, at geodesic `distance_m` from the goal, is near enough to it."""
        if self.require_stop:
            return distance_m < self.success_distance_m
        if self.episode is None:
            raise RuntimeError("there is no goal before reset()")
        goal = self.episode.goal_position
        planar = math.hypot(goal[0] - position[0], goal[1] - position[1])
        return planar < self.success_distance_m

    @property
    def episode_count(self) -> Optional[int]:
        """How many episodes the list has; None if they are drawn without end."""
        return len(self.episodes) if isinstance(self.episodes, FixedEpisodes) else None

    def stop_rendering(self) -> None:
        """Give black pictures from now on, for policies that look at none."""
        parts = self.simulator.observation_space.spaces.items()
        black = {key: np.zeros(space.shape or (), space.dtype) for key, space in parts}
        self.simulator.observe = lambda: dict(black)  # type: ignore[method-assign]

    def _distance(self, position: Sequence[float]) -> float:
        distance = float(self.simulator.distance_to_goal(position))
        if not math.isfinite(distance):
            assert self.episode is not None
            raise RuntimeError(
                f"the simulator's distance to the goal is {distance} at {position}, where "
                f"the robot stands in scene {self.episode.scene_id!r}, episode "
                f"{self.episode.episode_id!r}: it must be finite wherever move() takes the robot"
            )
        return distance

    @staticmethod
    def _names(episode: Episode) -> Dict[str, Any]:
        return {"episode_id": episode.episode_id, "scene_id": episode.scene_id}

    def _observe(self) -> Dict[str, np.ndarray]:
        assert self.episode is not None
        observation = dict(self.simulator.observe())
        position, heading = self.simulator.position.tolist(), self.simulator.heading
        observation["pointgoal"] = pointgoal(position, heading, self.episode.goal_position)
        self._observation = observation
        return observation

    def render(self) -> Optional[np.ndarray]:
        """Return the robot's view, uint8 (H, W, 3): colour if there is any, else depth in gray."""
        if self.render_mode is None or not self._observation:
            return None
        if "rgb" in self._observation:
            return self._observation["rgb"]
        space = self.simulator.observation_space["depth"]
        assert isinstance(space, spaces.Box)
        near, far = float(space.low.min()), float(space.high.max())
        scaled = (self._observation["depth"] - near) / max(far - near, 1e-6)
        gray = np.clip(255.0 * scaled, 0.0, 255.0).astype(np.uint8)
        return np.repeat(gray, 3, axis=-1)

    def close(self) -> None:
        """Close the simulator."""
        self.simulator.close()
