"""habitat-lab's PointNav as a Gymnasium environment."""

from __future__ import annotations

import logging
import math
import weakref
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import gymnasium
import numpy as np
from gymnasium import spaces

from sim_adapters.episodes import (
    Episode,
    heading_from_habitat,
    position_from_habitat,
)
from sim_adapters.habitat.actions import TaskActions
from sim_adapters.habitat.configuration import BULLET, Choice, check_gpu, compose, load_dataset
from sim_adapters.habitat.errors import HabitatError
from sim_adapters.habitat.importing import import_habitat
from sim_adapters.habitat.nav_simulator import HabitatNavSimulator
from sim_adapters.habitat.versions import check_versions
from sim_adapters.pointgoal import FixedEpisodes
from sim_adapters.resize import AreaResize

GPS_COMPASS = "pointgoal_with_gps_compass"
POINTGOAL = "pointgoal"
# The environments on habitat-sim in this process.
_ON_HABITAT_SIM: weakref.WeakSet[HabitatEnv] = weakref.WeakSet()


class HabitatEpisodes(FixedEpisodes):
    """The episodes of a data set in the order of its files, whatever order they are played in."""

    def habitat_episode(self, index: int) -> Any:
        """Episode `index` as habitat-lab has it; IndexError if there is none."""
        self.seek(index)
        return self._episodes[index]

    def all(self) -> List[Any]:
        """A list of all of them that may be shuffled."""
        return list(self._episodes)


class HabitatEnv(gymnasium.Env):
    """Any PointNav configuration of habitat-lab, on habitat-sim (`Sim-v0`) or PyBullet (`Bullet-v0`).

    Task, reward, success and all measures are habitat-lab's own. An episode that is over without a
    stop was cut by its time limit: truncated, not terminated.

    Observations: the cameras as configured ("rgb" uint8, "depth" float32, by default a share of its
    range) and the task's sensors, float32; `pointgoal_with_gps_compass` is called "pointgoal" here
    as everywhere in this project.

    Args:
        config: a PointNav configuration's name, such as "pointnav_gibson", or a YAML file.
        overrides: hydra's, such as "habitat/dataset/pointnav=gibson_v2".
        split: of the data set; empty for the configuration's.
        episodes: a PointNav-v1 file (json.gz) to use instead of the data set.
        simulator: "Sim-v0" or "Bullet-v0"; empty for the configuration's.
        sensors: the cameras that are kept ("rgb", "depth"); none given keeps all.
        image_size: side of the pictures, pixels, or (height, width); 0 for the configuration's.
        resize: side, pixels, of the squares that pictures become by averaging; 0 leaves them.
        max_steps: time limit; 0 for the configuration's.

    Attributes:
        env: habitat-lab's environment behind.
        episodes: the data set's episodes; `reset(options={"index": i})` plays the i-th.
        episode: the current one, in our frame.
        simulator: the simulator in our frame, for planners and films.
        one_per_process: whether a second one in this process is refused. habitat-sim draws with the
            context that was made last, and whichever closes first leaves the other without one:
            its next picture aborts the process.

    Raises:
        HabitatError: a wrong option, a missing data set, split, scene or GPU, a release that does
            not fit, a second one on habitat-sim; one line each.
        ModuleNotFoundError: habitat-lab is not installed.
    """

    metadata: Dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        *,
        config: str = "pointnav_gibson",
        overrides: Sequence[str] = (),
        split: str = "",
        episodes: str = "",
        simulator: str = "",
        sensors: Sequence[str] = (),
        image_size: Any = 0,
        resize: int = 0,
        max_steps: int = 0,
        render_mode: Optional[str] = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        check_versions()
        import_habitat()
        from habitat.core.environments import RLTaskEnv
        from habitat.core.logging import logger

        logger.setLevel(logging.WARNING)  # it reports every environment that is built

        cameras = (sensors,) if isinstance(sensors, str) else tuple(sensors)
        size = (image_size, image_size) if np.isscalar(image_size) else tuple(image_size)
        choice = Choice(split, episodes, simulator, cameras, size, max_steps)
        words = (overrides,) if isinstance(overrides, str) else tuple(overrides)
        self._config = compose(config, words, choice)
        habitat = self._config.habitat
        _check_simulator(habitat)
        self.one_per_process = habitat.simulator.type != BULLET
        check_gpu(habitat)
        self._actions = TaskActions(habitat)
        self._dataset = load_dataset(habitat)
        self.episodes = HabitatEpisodes(self._dataset.episodes)
        self.render_mode = render_mode
        self.max_steps = int(habitat.environment.max_episode_steps) or None
        self.env: Any = RLTaskEnv(self._config, self._dataset)
        if self.one_per_process:
            _ON_HABITAT_SIM.add(self)
        self.sim = self.env.habitat_env.sim
        self.action_space = self._actions.space
        self._resize = resize
        self._resizers: Dict[str, AreaResize] = {}
        self._goal_is_current = POINTGOAL not in self.env.observation_space.spaces
        self.observation_space = self._describe(self.env.observation_space)
        self.simulator = self._nav_simulator()
        self.episode: Optional[Episode] = None
        self._position = np.zeros(3)
        self._path_length_m, self._steps = 0.0, 0
        self._observation: Dict[str, np.ndarray] = {}
        self._ended = True

    @property
    def actions(self) -> Any:
        """What planners need to know of the actions.

        Raises:
            HabitatError: they are others than PointNav's.
        """
        if self._actions.motions is None:
            raise HabitatError(
                "only stop, move_forward, turn_left, turn_right in this order, or velocity_control "
                f"alone, can be planned with, got {', '.join(self._config.habitat.task.actions)}"
            )
        return self._actions.motions

    @property
    def episode_count(self) -> int:
        """How many episodes the data set has."""
        return len(self.episodes)

    @property
    def success_distance_m(self) -> float:
        """How near the goal is there."""
        return float(self._config.habitat.task.measurements.success.success_distance)

    def has_arrived(self, position: Sequence[float], distance_m: float) -> bool:
        """Whether stopping at `position`, at geodesic `distance_m` from the goal, is a success."""
        return distance_m < self.success_distance_m

    def stop_rendering(self) -> None:
        """Give black pictures from now on where that saves time, for policies that look at none."""
        if self._config.habitat.simulator.type == BULLET:
            self.sim.rendering = False

    def reference_policies(self) -> Dict[str, Callable[[gymnasium.Env], Any]]:
        """habitat-lab's own baselines, by name: what makes a policy for an environment."""
        from sim_adapters.habitat.follower import ShortestPathFollowerPolicy
        from sim_adapters.habitat.stand_ins import has_habitat_sim

        discrete = isinstance(self.action_space, spaces.Discrete)
        if self._config.habitat.simulator.type == BULLET or not (has_habitat_sim() and discrete):
            return {}
        return {"habitat follower": ShortestPathFollowerPolicy}

    def _nav_simulator(self) -> Any:
        if self._config.habitat.simulator.type == BULLET:
            return self.sim.robot
        return HabitatNavSimulator(self.sim)

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Start an episode: the next one in habitat-lab's order.

        Args:
            seed: starts that order, and all else that is random, anew.
            options: {"index": i} plays the i-th episode of the data set's files.

        Returns:
            The first observation, and info: "episode_id", "scene_id", "geodesic_distance" (m).

        Raises:
            IndexError: there is no such episode.
            ValueError: an unknown option, or a goal that cannot be reached.
        """
        super().reset(seed=seed)
        rest = dict(options or {})
        index = rest.pop("index", None)
        if rest:
            raise ValueError(f"reset knows the option 'index' only, got {sorted(rest)}")
        inner = self.env.habitat_env
        if seed is not None:
            inner.seed(seed % 2**32)
            inner.episode_iterator = self._iterator(seed)
        if index is not None:
            inner.current_episode = self.episodes.habitat_episode(int(index))
        observation = self.env.reset()
        self._begin(inner.current_episode)
        distance = float(inner.get_metrics()["distance_to_goal"])
        if not math.isfinite(distance):
            raise ValueError(
                f"episode {self._names()['episode_id']} of {self._names()['scene_id']}: no way "
                "from its start to its goal; it may be made for a thinner robot "
                "(habitat.simulator.agents.main_agent.radius)"
            )
        self._observation = self._convert(observation)
        return self._observation, {**self._names(), "geodesic_distance": distance}

    def _iterator(self, seed: int) -> Any:
        """habitat-lab's order of the episodes, a function of `seed`."""
        from habitat.core.dataset import EpisodeIterator

        settings = self._config.habitat.environment.iterator_options
        # It takes no seed 0, and shuffles the very list that it is given.
        start = seed % 2**32 or 2**32 - 1
        return EpisodeIterator(self.episodes.all(), seed=start, **dict(settings))

    def _begin(self, episode: Any) -> None:
        self.episode = Episode(
            episode_id=str(episode.episode_id),
            scene_id=str(episode.scene_id),
            start_position=position_from_habitat(episode.start_position),
            start_heading=heading_from_habitat(episode.start_rotation),
            goal_position=position_from_habitat(episode.goals[0].position),
            geodesic_distance=float((episode.info or {}).get("geodesic_distance", math.nan)),
        )
        self.simulator.set_goal(self.episode.goal_position)
        self._position = np.array(self.sim.get_agent_state().position, np.float64)
        self._path_length_m, self._steps, self._ended = 0.0, 0, False

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Take one action.

        Returns:
            Observation, reward, terminated (stop), truncated (a time limit) and info: habitat-lab's
            measures and the project's shared names (success, spl, soft_spl, distance_to_goal,
            collisions, collided, path_length, steps), and the names of the episode.
        """
        if self._ended:
            raise RuntimeError("step() after the end of an episode or before reset(): call reset()")
        observation, reward, done, metrics = self.env.step(self._actions.to_habitat(action))
        position = np.array(self.sim.get_agent_state().position, np.float64)
        self._path_length_m += float(np.linalg.norm(position - self._position))
        self._position, self._steps = position, self._steps + 1
        self._ended = bool(done)
        stopped = bool(getattr(self.env.habitat_env.task, "is_stop_called", False))
        terminated = done and (stopped or not self.env.habitat_env.episode_over)
        self._observation = self._convert(observation)
        info = {**self._measures(metrics), **self._names()}
        return self._observation, float(reward), bool(terminated), done and not terminated, info

    def _measures(self, metrics: Dict[str, Any]) -> Dict[str, Any]:
        """habitat-lab's measures that are numbers, and what we call some of them."""
        numbers = (int, float, np.integer, np.floating)
        info = {key: float(v) for key, v in metrics.items() if isinstance(v, numbers)}
        collisions = metrics["collisions"]
        info.update(
            collisions=int(collisions["count"]),
            collided=bool(collisions["is_collision"]),
            path_length=self._path_length_m,
            steps=self._steps,
        )
        return info

    def _names(self) -> Dict[str, str]:
        assert self.episode is not None
        folder = str(self._config.habitat.dataset.scenes_dir).rstrip("/") + "/"
        scene = self.episode.scene_id
        scene = scene[len(folder) :] if scene.startswith(folder) else scene
        return {"episode_id": self.episode.episode_id, "scene_id": scene}

    def _describe(self, habitat_spaces: Any) -> spaces.Dict:
        """Gymnasium's version of habitat-lab's observation space."""
        found: Dict[str, spaces.Space[Any]] = {}
        for key, space in habitat_spaces.spaces.items():
            dtype: Any = np.uint8 if space.dtype == np.uint8 else np.float32
            name = self._name(key)
            if self._resize and len(space.shape) == 3:
                self._resizers[name] = AreaResize(space.shape, self._resize)
                shape = (self._resize, self._resize, space.shape[2])
                space = spaces.Box(space.low.min(), space.high.max(), shape, dtype)
            if name == POINTGOAL and self._is_polar(key):
                pi, far = np.float32(math.pi), np.finfo(np.float32).max
                low, high = np.array([0.0, -pi], np.float32), np.array([far, pi], np.float32)
                found[name] = spaces.Box(low, high, dtype=np.float32)
            else:
                found[name] = spaces.Box(
                    space.low.astype(dtype), space.high.astype(dtype), space.shape, dtype
                )
        return spaces.Dict(found)

    def _name(self, key: str) -> str:
        return POINTGOAL if key == GPS_COMPASS and self._goal_is_current else key

    def _is_polar(self, key: str) -> bool:
        config = self.env.habitat_env.task.sensor_suite.get(key).config
        return bool(config.goal_format == "POLAR" and config.dimensionality == 2)

    def _convert(self, observation: Dict[str, Any]) -> Dict[str, np.ndarray]:
        converted = {}
        for key, space in self.env.observation_space.spaces.items():
            value = observation[key]
            value = value.cpu().numpy() if hasattr(value, "cpu") else value
            dtype = np.uint8 if space.dtype == np.uint8 else np.float32
            name, value = self._name(key), np.array(value, dtype).reshape(space.shape)
            resizer = self._resizers.get(name)
            converted[name] = value if resizer is None else resizer(value)
        return converted

    def render(self) -> Optional[np.ndarray]:
        """The last colour picture, uint8 (H, W, 3), with render_mode "rgb_array"."""
        return self._observation.get("rgb") if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the simulator; a second call does nothing."""
        self.env.close()
        _ON_HABITAT_SIM.discard(self)


def _check_simulator(habitat: Any) -> None:
    from sim_adapters.habitat.stand_ins import has_habitat_sim

    if habitat.simulator.type == BULLET:
        return
    if not has_habitat_sim():
        raise HabitatError(
            f"habitat.simulator.type={habitat.simulator.type} needs habitat_sim, which is not "
            f"installed (docs/habitat.md says how); {BULLET} works without it"
        )
    if _ON_HABITAT_SIM:
        raise HabitatError(
            "this process has an environment on habitat-sim already, which takes no second one "
            "beside it: close that one first, or run each in a process of its own "
            "(train.env_processes=true)"
        )
