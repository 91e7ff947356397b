"""iGibson's PointNav as a Gymnasium environment."""

from __future__ import annotations

import copy
import logging
import math
import random
import shutil
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import gymnasium
import numpy as np
from gymnasium import spaces

from sim_adapters.episodes import Episode
from sim_adapters.igibson.configuration import Choice, check_robot, check_scene, compose
from sim_adapters.igibson.errors import IGibsonError
from sim_adapters.igibson.follower import PathFollowerPolicy
from sim_adapters.igibson.geodesic import ScenePaths
from sim_adapters.igibson.importing import import_igibson
from sim_adapters.igibson.navigator import IGibsonNavigator
from sim_adapters.igibson.rendering import choose_renderer
from sim_adapters.nav_actions import Actions, DiscreteActions, VelocityActions
from sim_adapters.nav_measures import Measures
from sim_adapters.resize import AreaResize

_log = logging.getLogger(__name__)


class IGibsonEnv(gymnasium.Env):
    """iGibson's PointNavFixedTask and PointNavRandomTask, in static and interactive scenes.

    Reward, success and the end of an episode are iGibson's own: there is no stop action, an episode ends where the
    robot is within `dist_tol` (0.36 m) of the goal. A time limit truncates; success, a fall and too many collisions
    terminate. iGibson is not fast: distances come from one search a goal (see geodesic.py), the same to rounding.

    Observations: "rgb" uint8 (H, W, 3); "depth" float32 (H, W, 1), a share of `depth_high` (0: out of range);
    "pointgoal" float32 (2,), (rho m, phi rad), left positive; "velocity" float32 (2,), forward m/s and turn rad/s.

    There can be one environment in a process: iGibson's physics calls go to PyBullet's first client.

    Args:
        config: one of iGibson's configurations, such as "locobot_nav", or a YAML file.
        data: the folder that holds iGibson's assets, g_dataset and ig_dataset; empty for where it looks itself.
        scene: a name, or several; with several each episode draws its own, and pays for loading it. Empty for the
            configuration's.
        task: "point_nav_fixed" or "point_nav_random"; empty for the configuration's.
        robot: its name, such as "Locobot", "Turtlebot", "Tinybot"; empty for the configuration's.
        sensors: the cameras that are kept ("rgb", "depth"); none given keeps the configuration's.
        image_size: side of the pictures, pixels, or (height, width); 0 for the configuration's.
        resize: side, pixels, of the squares that pictures become by averaging; 0 leaves them.
        actions: "continuous", (v, w) in [-1, 1]^2 times the robot's greatest speeds, or "discrete": forward, left,
            right at these speeds for one step.
        action_timestep_s: how long an action lasts.
        physics_timestep_s: of the simulation, a whole fraction of it.
        max_steps: time limit; 0 for the configuration's.
        texture_randomization: other textures every so many episodes, in interactive scenes; 0 for never.
        renderer: "auto", "gpu" or "software"; see `choose_renderer`.
        overrides: other keys of iGibson's configuration.

    Attributes:
        env: iGibson's environment behind.
        renderer: how it renders, in one line.
        episode: the current one.
        simulator: the robot and its distances, for planners.
        actions: what the robot can do.

    Raises:
        IGibsonError: a wrong option, missing data, nothing to render with, a second environment; one line each.
        ModuleNotFoundError: iGibson is not installed.
    """

    metadata: Dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        *,
        config: str = "locobot_nav",
        data: str = "",
        scene: Any = "",
        task: str = "",
        robot: str = "",
        sensors: Sequence[str] = (),
        image_size: Any = 0,
        resize: int = 0,
        actions: str = "continuous",
        action_timestep_s: float = 0.1,
        physics_timestep_s: float = 1.0 / 240.0,
        max_steps: int = 0,
        texture_randomization: int = 0,
        renderer: str = "auto",
        overrides: Optional[Mapping[str, Any]] = None,
        render_mode: Optional[str] = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        if actions not in ("discrete", "continuous"):
            raise IGibsonError(f"actions must be discrete or continuous, got {actions!r}")
        self._closed = True  # until there is something to close
        import_igibson(data)
        self._scenes = _words(scene)
        size = (image_size, image_size) if np.isscalar(image_size) else tuple(image_size)
        first = self._scenes[0] if self._scenes else ""
        choice = Choice(
            scene=first,
            task=task,
            robot=robot,
            sensors=_words(sensors),
            image_size=size,
            max_steps=max_steps,
            texture_randomization=texture_randomization,
            overrides=dict(overrides or {}),
        )
        self._config = compose(config, choice)
        _check_times(self._config, action_timestep_s, physics_timestep_s)
        self._scenes = self._scenes or (str(self._config["scene_id"]),)
        for name in self._scenes:
            check_scene({**self._config, "scene_id": name})
        self.render_mode = render_mode
        self.max_steps = int(self._config.get("max_step", 500))
        self.env: Any = self._build(action_timestep_s, physics_timestep_s, renderer)
        self._closed = False
        self._enter()
        self.actions: Actions = self._robot_actions(actions, action_timestep_s)
        self.action_space = self.actions.space
        self._resizers: Dict[str, AreaResize] = {}
        self.observation_space = self._describe(resize)
        self.episode: Optional[Episode] = None
        self._measures: Optional[Measures] = None
        self._observation: Dict[str, np.ndarray] = {}
        self._is_blind = False

    # --- building ------------------------------------------------------------

    def _build(self, action_timestep_s: float, physics_timestep_s: float, renderer: str) -> Any:
        import pybullet

        from sim_adapters.igibson import tinybot

        tinybot.register()
        check_robot(self._config["robot"]["name"])
        if pybullet.isConnected(0):
            raise IGibsonError(
                "there is an environment with PyBullet in this process already, and iGibson needs it for itself: "
                "run each in a worker of its own (sim_adapters.vector.VectorEnv)"
            )
        settings, self.renderer = choose_renderer(renderer)
        _log.info("iGibson renders on %s", self.renderer)
        settings.load_textures = "rgb" in self._config["output"]
        from igibson.envs.igibson_env import iGibsonEnv

        try:
            return iGibsonEnv(
                copy.deepcopy(self._config),
                action_timestep=action_timestep_s,
                physics_timestep=physics_timestep_s,
                rendering_settings=settings,
            )
        except BaseException as error:
            if pybullet.isConnected(0):
                pybullet.disconnect(0)  # what was built so far
            if isinstance(error, pybullet.error):
                raise IGibsonError(self._explain(str(error))) from error
            raise

    def _explain(self, message: str) -> str:
        import igibson

        if "URDF" in message:
            robot = self._config["robot"]["name"]
            return (
                f"iGibson cannot load the robot {robot} (PyBullet: {message}); its files belong in "
                f"{igibson.assets_path}: python -m igibson.utils.assets_utils --download_assets"
            )
        return f"iGibson cannot load the scene {self._config['scene_id']}: {message}"

    def _enter(self) -> None:
        """Take over a scene that was just loaded."""
        paths = ScenePaths(self.env.scene)
        paths.install()
        self.simulator = IGibsonNavigator(self.env, paths)
        self._is_shown = False
        for robot in self.env.robots:
            # In 2.2.2 a scene asks all its objects for other textures, robots included, which have no answer.
            robot.randomize_texture = _keep_texture

    def _robot_actions(self, kind: str, step_s: float) -> Actions:
        low, high = self.env.robots[0]._controllers["base"].command_output_limits
        speed_mps, turn_rate_dps = float(high[0]), math.degrees(float(high[1]))
        if kind == "discrete":
            return DiscreteActions(
                forward_m=speed_mps * step_s, turn_deg=turn_rate_dps * step_s, with_stop=False
            )
        return VelocityActions(
            min_speed_mps=float(low[0]),
            max_speed_mps=speed_mps,
            max_turn_rate_dps=turn_rate_dps,
            step_s=step_s,
            with_stop=False,
            stop_speed_mps=0.0,
            stop_turn_rate_dps=0.0,
        )

    def _describe(self, resize: int) -> spaces.Dict:
        shape = (int(self._config["image_height"]), int(self._config["image_width"]))
        pi, far = np.float32(math.pi), np.finfo(np.float32).max
        found: Dict[str, spaces.Space[Any]] = {}
        for name in self._config["output"][1:]:
            channels, high, dtype = (3, 255, np.uint8) if name == "rgb" else (1, 1.0, np.float32)
            full = (*shape, channels)
            if resize:
                self._resizers[name] = AreaResize(full, resize)
                full = (resize, resize, channels)
            found[name] = spaces.Box(0, high, full, dtype)
        least, most = np.array([0.0, -pi], np.float32), np.array([far, pi], np.float32)
        found["pointgoal"] = spaces.Box(least, most, dtype=np.float32)
        found["velocity"] = spaces.Box(-far, far, (2,), np.float32)
        return spaces.Dict(found)

    # --- episodes ------------------------------------------------------------

    @property
    def success_distance_m(self) -> float:
        """How near the goal is there; planar."""
        return float(self.env.task.dist_tol)

    def has_arrived(self, position: Sequence[float], distance_m: float) -> bool:
        """Whether the robot at `position` is there; the geodesic `distance_m` does not count."""
        del distance_m
        goal = self.env.task.target_pos
        return math.hypot(goal[0] - position[0], goal[1] - position[1]) < self.success_distance_m

    def stop_rendering(self) -> None:
        """Give black pictures from now on, for policies that look at none."""
        self._is_blind = True
        self.env.sensors.pop("vision", None)

    def reference_policies(self) -> Dict[str, Callable[[gymnasium.Env], Any]]:
        """Baselines of this simulator, by name: what makes a policy for an environment."""
        return {"shortest path": PathFollowerPolicy}

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Start an episode; with `seed`, all of it (scene, start, goal, textures) follows from it.

        Returns:
            The first observation, and info: "episode_id", "scene_id", "geodesic_distance" (m), "renderer".

        Raises:
            IGibsonError: no start or goal was found in the scene, or the pictures are black.
            ValueError: there are no options.
        """
        super().reset(seed=seed)
        if options:
            raise ValueError(f"reset knows no options, got {sorted(options)}")
        scene = self._scenes[int(self.np_random.integers(len(self._scenes)))]
        if scene != self.env.config["scene_id"]:
            self._load(scene)
        episode_seed = int(self.np_random.integers(2**32))
        random.seed(episode_seed)  # iGibson has no random state of its own
        np.random.seed(episode_seed)
        try:
            state = self.env.reset()
        except AssertionError as error:
            raise IGibsonError(
                f"scene {scene}: {error}; see target_dist_min, target_dist_max"
            ) from error
        self._check_pictures()
        distance = self._begin(scene, episode_seed)
        self._observation = self._convert(state)
        names = {**self._names(), "renderer": self.renderer}
        return self._observation, {**names, "geodesic_distance": distance}

    def _load(self, scene: str) -> None:
        self._remove_instances()
        self.env.config["robot"] = copy.deepcopy(
            self._config["robot"]
        )  # it was taken apart by the last load
        self.env.reload_model(scene)
        if self._is_blind:
            self.env.sensors.pop("vision", None)
        self._enter()

    def _check_pictures(self) -> None:
        """A driver that cannot compile the shaders gives black pictures and no error."""
        if self._is_shown or self._is_blind:
            return
        colour, points = self.env.simulator.renderer.render_robot_cameras(modes=("rgb", "3d"))
        if float(np.std(colour[..., :3])) == 0.0 and float(np.abs(points[..., 2]).max()) == 0.0:
            raise IGibsonError(
                f"iGibson's pictures are black: its shaders do not run on {self.renderer}; "
                "use renderer=software"
            )
        self._is_shown = True

    def _begin(self, scene: str, episode_seed: int) -> float:
        task = self.env.task
        self.simulator.set_goal(task.target_pos)
        position = self.simulator.position
        distance = float(self.simulator.distance_to_goal(position.tolist()))
        x, y, z = (float(v) for v in position)
        goal_x, goal_y = (float(v) for v in task.target_pos[:2])
        self.episode = Episode(
            episode_id=str(episode_seed),
            scene_id=scene,
            start_position=(x, y, z),
            start_heading=self.simulator.heading,
            goal_position=(goal_x, goal_y, z),
            geodesic_distance=distance,
        )
        self._measures = Measures(position.tolist(), distance)
        self._ended = False
        return distance

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Take one action.

        Returns:
            Observation, reward, terminated, truncated and info: the project's shared measures, iGibson's own
            "igibson_spl" and "igibson_path_length" (which leave out the last step), and the names of the episode.

        Raises:
            ValueError: the action is not in the action space.
        """
        if self._measures is None or self._ended:
            raise RuntimeError("step() after the end of an episode or before reset(): call reset()")
        state, reward, done, raw = self.env.step(self._command(action))
        position = self.simulator.position.tolist()
        distance = float(self.simulator.distance_to_goal(position))
        success = bool(raw["success"])
        collided = len(self.env.collision_links) > 0
        self._measures.update(position, distance, collided=collided, success=success)
        terminated = bool(done) and self._is_over()
        self._ended = bool(done)
        self._observation = self._convert(state)
        info = {
            **self._measures.info(),
            "igibson_spl": float(raw["spl"]),
            "igibson_path_length": float(raw["path_length"]),
            **self._names(),
        }
        return self._observation, float(reward), terminated, bool(done) and not terminated, info

    def _command(self, action: Any) -> np.ndarray:
        """What iGibson's robot takes: (v, w) in [-1, 1]^2."""
        actions = self.actions
        if isinstance(actions, DiscreteActions):
            motions = actions.motions(action)
            assert motions is not None
            forward_m, turn_rad = motions[0]
            return np.array([np.sign(forward_m), np.sign(turn_rad)])
        actions.velocities(action)  # refuses what is no action
        return np.clip(np.asarray(action, np.float64), -1.0, 1.0)

    def _is_over(self) -> bool:
        """Whether anything but the time limit ends the episode."""
        from igibson.termination_conditions.timeout import Timeout

        task = self.env.task
        return any(
            bool(condition.get_termination(task, self.env)[0])
            for condition in task.termination_conditions
            if not isinstance(condition, Timeout)
        )

    def _names(self) -> Dict[str, str]:
        assert self.episode is not None
        return {"episode_id": self.episode.episode_id, "scene_id": self.episode.scene_id}

    def _convert(self, state: Mapping[str, Any]) -> Dict[str, np.ndarray]:
        task = np.asarray(state["task_obs"], np.float64).astype(np.float32)
        converted = {"pointgoal": task[:2], "velocity": task[2:]}
        for name, space in self.observation_space.spaces.items():  # type: ignore[attr-defined]
            if name in converted:
                continue
            if self._is_blind:
                converted[name] = np.zeros(space.shape, space.dtype)
                continue
            value = np.asarray(state[name])
            if name == "rgb":
                value = np.rint(255.0 * np.clip(value, 0.0, 1.0)).astype(np.uint8)
            value = value.astype(space.dtype, copy=False)
            resizer = self._resizers.get(name)
            converted[name] = value if resizer is None else resizer(value)
        return converted

    def render(self) -> Optional[np.ndarray]:
        """The last colour picture, uint8 (H, W, 3), with render_mode "rgb_array"."""
        return self._observation.get("rgb") if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the simulator; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._remove_instances()
        self.env.close()

    def _remove_instances(self) -> None:
        """An interactive scene writes files for itself into ig_dataset/scene_instances, and leaves them there."""
        folder = getattr(self.env.scene, "scene_instance_folder", None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _keep_texture() -> None:
    """A robot's part in the randomisation of textures."""


def _words(value: Any) -> Tuple[str, ...]:
    return (value,) if isinstance(value, str) and value else tuple(value)


def _check_times(config: Mapping[str, Any], action_s: float, physics_s: float) -> None:
    """Refuse what iGibson would refuse with a bare assertion."""
    if not 0 < physics_s <= action_s or not (action_s / physics_s).is_integer():
        raise IGibsonError(
            "action_timestep_s must be a whole multiple of physics_timestep_s, "
            f"got {action_s!r} and {physics_s!r}"
        )
    fall_m = 0.5 * 9.8 * action_s**2
    if fall_m >= float(config.get("initial_pos_z_offset", 0.1)):
        raise IGibsonError(
            f"overrides: initial_pos_z_offset must be greater than {fall_m:.3f} m, what a robot falls in "
            f"action_timestep_s={action_s}"
        )
