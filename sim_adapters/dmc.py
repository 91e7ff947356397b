"""The DeepMind Control suite as Gymnasium environments.

The protocol is that of DreamerV2 (danijar/dreamerv2, `common/envs.py`): actions repeated, rewards
summed over the repeats, camera 0 but 2 for the quadruped, pictures of 64 x 64.
"""

from __future__ import annotations

import difflib
import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

import gymnasium
import numpy as np
from gymnasium import spaces

from sim_adapters import mujoco_gl

SENSORS = ("pixels", "proprioception")

#: other names of a task
ALIASES = {"cup_catch": "ball_in_cup_catch"}

#: the camera of a domain where it is not 0, which there looks from afar or at the wrong side
CAMERAS = {"quadruped": 2}

#: their resets copy the terrain to the graphics card, looked at or not
_ALWAYS_DRAWN = ("quadruped_escape",)

#: MuJoCo's stand-in for a control without bounds
_UNBOUNDED = 1e10

Observation = Dict[str, np.ndarray]


class DMControlEnv(gymnasium.Env):
    """A task of the suite, from pixels, proprioception or both.

    Observations: "image", uint8 (height, width, 3), and for proprioception every observation of
    the task under its own name, float32 (D,); scalars have one entry and matrices are flattened
    row by row. Actions: float32 in [-1, 1], mapped linearly to the bounds of each actuator (an
    actuator without bounds gets the number as it is). The reward is the sum over the repeats, as
    a rule in [0, action_repeat]. The suite's time limit truncates, `max_steps` agent steps after
    the start (`lqr_*` has none); only a discount of 0 terminates (`lqr_*` alone does that).

    Arguments:
        task: "<domain>_<task>", such as "walker_walk" or "ball_in_cup_catch".
        sensors: any of "pixels" and "proprioception".
        image_size: side of the pictures, pixels, or (height, width).
        shadows: draw shadows, as the suite does; on a CPU they take most of the time of a picture.
        camera: number of the camera, -1 for the free one; None: 0, and 2 for the quadruped.
        action_repeat: control steps of the simulator in an agent step.
        render_mode: None, or "rgb_array": `render` returns the picture.

    Raises:
        ValueError: unknown task, or an argument out of its range.
        RenderingUnavailable: pictures are asked for and no OpenGL library draws them.
    """

    metadata: Dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        *,
        task: str = "walker_walk",
        sensors: Sequence[str] = ("pixels",),
        image_size: Any = 64,
        shadows: bool = True,
        camera: Optional[int] = None,
        action_repeat: int = 2,
        render_mode: Optional[str] = None,
    ) -> None:
        self._sensors = _checked_sensors(sensors)
        size = _checked_size(image_size)
        if action_repeat < 1:
            raise ValueError(f"action_repeat must be >= 1, got {action_repeat}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.render_mode = render_mode
        self.action_repeat = action_repeat
        self._draws = "pixels" in self._sensors or render_mode is not None
        backend = _import_dm_control(self._draws or task in _ALWAYS_DRAWN)
        domain, name = _find_task(task)
        self._env = _load(domain, name)
        self._camera: Any = None
        if self._draws:
            number = CAMERAS.get(domain, 0) if camera is None else camera
            _set_quality(self._env.physics.model.vis, size, shadows)
            self._camera = _make_camera(self._env.physics, size, number, backend)
        self.max_steps = _max_steps(self._env, action_repeat)
        self._low, self._high = _action_bounds(self._env.action_spec())
        self.action_space = spaces.Box(-1.0, 1.0, self._low.shape, np.float32)
        self.observation_space = self._build_observation_space(size)
        self._running = False

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Observation, Dict[str, Any]]:
        """Start an episode; a seed restarts the task's random numbers (as dm_control's `random`)."""
        super().reset(seed=seed)
        if seed is not None:
            # RandomState takes 32 bits; larger seeds are spread over several words.
            words = seed if seed < 2**32 else np.random.SeedSequence(seed).generate_state(4)
            self._env.task.random.seed(words)
        observation = self._env.reset().observation
        self._running = True
        return self._observe(observation), {}

    def step(self, action: Any) -> Tuple[Observation, float, bool, bool, Dict[str, Any]]:
        """Repeat an action in [-1, 1], until the episode's end at most.

        Raises:
            ValueError: the action is outside the action space.
            RuntimeError: the episode has ended, or none was begun.
        """
        if not self._running:
            raise RuntimeError("step() after the end of an episode or before reset(): call reset()")
        action = np.asarray(action)
        if not self.action_space.contains(action):
            raise ValueError(f"the action must be in {self.action_space}, got {action!r}")
        control = self._low + (action.astype(np.float64) + 1.0) / 2.0 * (self._high - self._low)
        reward = 0.0
        for _ in range(self.action_repeat):
            time_step = self._env.step(control)
            reward += float(time_step.reward)
            if time_step.last():
                break
        ended = bool(time_step.last())
        terminated = ended and time_step.discount == 0.0
        self._running = not ended
        observation = self._observe(time_step.observation)
        return observation, reward, terminated, ended and not terminated, {}

    def render(self) -> Optional[np.ndarray]:
        """Return the picture, uint8 (height, width, 3), where `render_mode` is "rgb_array"."""
        return None if self.render_mode is None else self._picture()

    def close(self) -> None:
        """Free the simulator and its OpenGL context."""
        self._running = False
        self._camera = None
        self._env.physics.free()

    def _build_observation_space(self, size: Tuple[int, int]) -> spaces.Dict:
        parts: Dict[str, spaces.Space[Any]] = {}
        if "pixels" in self._sensors:
            parts["image"] = spaces.Box(0, 255, (*size, 3), np.uint8)
        if "proprioception" in self._sensors:
            for key, spec in self._env.observation_spec().items():
                length = math.prod(spec.shape)
                parts[key] = spaces.Box(-np.inf, np.inf, (length,), np.float32)
        return spaces.Dict(parts)

    def _observe(self, observation: Any) -> Observation:
        parts: Observation = {}
        if "pixels" in self._sensors:
            parts["image"] = self._picture()
        if "proprioception" in self._sensors:
            for key, value in observation.items():
                parts[key] = np.array(value, np.float32).reshape(-1)
        return parts

    def _picture(self) -> np.ndarray:
        # A copy: dm_control returns a view, upside down, of a buffer that it draws into again.
        return np.array(self._camera.render(), np.uint8, order="C")


def tasks() -> List[str]:
    """Return the name of every task of the suite."""
    mujoco_gl.import_without_rendering()
    from dm_control import suite

    return sorted(f"{domain}_{name}" for domain, name in suite.ALL_TASKS)


def _find_task(task: str) -> Tuple[str, str]:
    """Return domain and name of a task; names of both have underscores, so no split will do."""
    from dm_control import suite

    known = {f"{domain}_{name}": (domain, name) for domain, name in suite.ALL_TASKS}
    wanted = ALIASES.get(task, task)
    if wanted not in known:
        close = difflib.get_close_matches(task, [*known, *ALIASES], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"the suite has no task {task!r}.{hint} Tasks: {', '.join(sorted(known))}")
    return known[wanted]


def _import_dm_control(drawing: bool) -> str:
    if drawing:
        return mujoco_gl.import_for_rendering()
    mujoco_gl.import_without_rendering()
    return ""


def _load(domain: str, name: str) -> Any:
    from dm_control import suite

    # `lqr` draws its springs once, here: with a fixed seed every environment is the same system.
    env = suite.load(domain, name, task_kwargs={"random": 0})
    env.task.random.seed()  # from here on every episode is another, until a reset with a seed
    return env


def _set_quality(vis: Any, size: Tuple[int, int], shadows: bool) -> None:
    """Say how to draw; to be called before anything is drawn."""
    # A buffer of the picture's size instead of 640 x 480: the same picture, and less to clear.
    vis.global_.offheight, vis.global_.offwidth = size
    if not shadows:
        vis.quality.shadowsize = 0


def _make_camera(physics: Any, size: Tuple[int, int], camera: int, backend: str) -> Any:
    from dm_control import mujoco

    # dm_control only complains of numbers too high when it draws, and takes -2 for a camera.
    if not -1 <= camera < physics.model.ncam:
        raise ValueError(f"camera must be in [-1, {physics.model.ncam}), got {camera}")
    try:
        physics.contexts  # noqa: B018  (made on first use)
    except Exception as error:  # whatever PyOpenGL, GLFW or MuJoCo raise
        raise mujoco_gl.unavailable(backend, error) from error
    return mujoco.Camera(physics, height=size[0], width=size[1], camera_id=camera)


def _max_steps(env: Any, action_repeat: int) -> Optional[int]:
    """Return the time limit in agent steps; the suite states it in control steps."""
    limit = env._step_limit
    return None if math.isinf(limit) else math.ceil(math.ceil(limit) / action_repeat)


def _action_bounds(spec: Any) -> Tuple[np.ndarray, np.ndarray]:
    low = np.array(spec.minimum, np.float64)
    high = np.array(spec.maximum, np.float64)
    bounded = (low > -_UNBOUNDED) & (high < _UNBOUNDED)
    return np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)


def _checked_sensors(sensors: Sequence[str]) -> Tuple[str, ...]:
    chosen = (sensors,) if isinstance(sensors, str) else tuple(sensors)
    if not chosen or not set(chosen) <= set(SENSORS):
        raise ValueError(f"sensors must be one or more of {', '.join(SENSORS)}, got {sensors!r}")
    return chosen


def _checked_size(image_size: Any) -> Tuple[int, int]:
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"image_size must be pixels or (height, width), got {image_size!r}")
    return pair
