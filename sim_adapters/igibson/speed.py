"""How fast iGibson steps: in its own process, through the process boundary, and what the boundary and A* cost.

`python -m sim_adapters.igibson.speed --data data/igibson_tiny` runs in the agent's Python and measures in a worker of
iGibson's. Every figure is a median; the boundary is that of a blank environment of 64x64 RGB-D.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import gymnasium
import numpy as np
from gymnasium import spaces

from sim_adapters.igibson.env import IGibsonEnv
from sim_adapters.remote import EnvSpec, EnvStartError
from sim_adapters.vector import VectorEnv

ROUNDS = 20


def _median_ms(once: Callable[[], Any], count: int) -> float:
    """Milliseconds a call: the median of `ROUNDS` means over `count` calls each."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(count):
            once()
        times.append(1e3 * (time.perf_counter() - begin) / count)
    return statistics.median(times)


class BlankEnv(gymnasium.Env):
    """64x64 RGB-D pictures at no cost, and a goal: what crosses the boundary in a step."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "rgb": spaces.Box(0, 255, (64, 64, 3), np.uint8),
                "depth": spaces.Box(0.0, 1.0, (64, 64, 1), np.float32),
                "pointgoal": spaces.Box(-1.0, 1.0, (2,), np.float32),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._observation = {key: space.sample() for key, space in self.observation_space.items()}
        self._info = {"success": 0.0, "spl": 0.0, "collisions": 0, "path_length": 0.0, "steps": 0}

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Any, Dict[str, Any]]:
        """Start an episode that never ends."""
        super().reset(seed=seed)
        return self._observation, {}

    def step(self, action: Any) -> Tuple[Any, float, bool, bool, Dict[str, Any]]:
        """Do nothing."""
        return self._observation, 0.0, False, False, self._info


class TimedEnv(IGibsonEnv):
    """An IGibsonEnv that measures itself in its own process."""

    def time_steps(self, count: int) -> float:
        """Milliseconds a step, turning on the spot, which does not end an episode before its time."""
        action = np.array([0.0, 1.0], np.float32)

        def once() -> None:
            _, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                self.reset()

        self.reset(seed=0)
        return _median_ms(once, count)

    def time_distances(self) -> Dict[str, Any]:
        """Milliseconds a geodesic distance by A* and by the field, of a whole field, and their largest difference."""
        self.reset(seed=0)
        scene, task = self.env.scene, self.env.task
        rng, floor = np.random.default_rng(0), int(task.floor_num)
        sources = [
            scene.get_random_point(floor)[1][:2] + rng.uniform(-0.05, 0.05, 2) for _ in range(50)
        ]
        target = task.target_pos[:2]
        search = type(scene).get_shortest_path
        ways = [(source, target) for source in sources]
        theirs, astar_ms = _timed(lambda a, b: search(scene, floor, a, b)[1], ways)
        ours, field_ms = _timed(lambda a, b: scene.get_shortest_path(floor, a, b)[1], ways)
        ways = [(sources[0], scene.get_random_point(floor)[1][:2]) for _ in range(20)]
        _, whole_ms = _timed(lambda a, b: scene.get_shortest_path(floor, a, b)[1], ways)
        apart = float(np.abs(np.subtract(ours, theirs)).max())
        return {"astar": astar_ms, "field": field_ms, "new goal": whole_ms, "difference_m": apart}


def _timed(
    distance: Callable[[Any, Any], Any], ways: Sequence[Tuple[Any, Any]]
) -> Tuple[List[float], float]:
    """The distances of `ways`, and the median milliseconds of one."""
    results, times = [], []
    for source, target in ways:
        begin = time.perf_counter()
        results.append(float(distance(source, target)))
        times.append(1e3 * (time.perf_counter() - begin))
    return results, statistics.median(times)


def _vector_ms(vector: VectorEnv, action: Any, count: int) -> float:
    """Milliseconds a step of a vector of one."""

    def once() -> None:
        _, _, terminated, truncated, _ = vector.step(action)
        if terminated[0] or truncated[0]:
            vector.reset()

    vector.reset(seed=0)
    return _median_ms(once, count)


def measure(python: Optional[str], options: Dict[str, Any], count: int = 25) -> Dict[str, float]:
    """All figures, milliseconds but for "difference_m".

    Args:
        python: iGibson's interpreter; None for this one.
        options: of `IGibsonEnv`.
        count: steps of a timing; there are `ROUNDS` of them.
    """
    action = np.array([[0.0, 1.0]], np.float32)
    module = "sim_adapters.igibson.speed"
    blank = BlankEnv()
    alone = _median_ms(lambda: blank.step(action[0]), count)
    vector = VectorEnv([EnvSpec(f"{module}:BlankEnv", {}, python)])
    try:
        boundary = _vector_ms(vector, action, 4 * count) - alone
    finally:
        vector.close()
    vector = VectorEnv([EnvSpec(f"{module}:TimedEnv", options, python)], step_timeout_s=600.0)
    try:
        inside = vector.call_at(0, "time_steps", count)
        through = _vector_ms(vector, action, count)
        distances = vector.call_at(0, "time_distances")
    finally:
        vector.close()
    return {"boundary": boundary, "step inside": inside, "step through": through, **distances}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m sim_adapters.igibson.speed", description="Measure iGibson's speed."
    )
    parser.add_argument("--data", default="data/igibson_tiny", help="see sim_adapters.igibson.tiny")
    parser.add_argument(
        "--python", default=".venv-igibson/bin/python", help="iGibson's interpreter"
    )
    given = parser.parse_args(arguments)
    options = {
        "data": given.data,
        "scene": "tiny_train_0",
        "robot": "Tinybot",
        "sensors": ["rgb", "depth"],
        "image_size": 64,
        "overrides": {
            "scene": "gibson",
            "trav_map_erosion": 5,
            "collision_ignore_link_a_ids": [0, 1, 2, 3],
        },
    }
    try:
        figures = measure(given.python, options)
    except EnvStartError as error:
        parser.exit(1, f"{error}\n")
    inside, through = figures["step inside"], figures["step through"]
    print(
        f"boundary of a blank environment      {figures['boundary']:.3f} ms a step\n"
        f"iGibson in its own process           {inside:.2f} ms a step, {1e3 / inside:.0f} steps/s\n"
        f"iGibson through the boundary         {through:.2f} ms a step, {1e3 / through:.0f} steps/s\n"
        f"geodesic distance by A*              {figures['astar']:.2f} ms\n"
        f"geodesic distance by the field       {figures['field']:.2f} ms, and {figures['new goal']:.2f} ms a new goal\n"
        f"their largest difference             {figures['difference_m']:.1e} m"
    )


if __name__ == "__main__":
    main()
