"""What tests look at inside a worker: environments with more methods. Runs under iGibson's Python."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import gymnasium
import numpy as np

from sim_adapters import registry
from sim_adapters.check import check_env
from sim_adapters.igibson.env import IGibsonEnv
from sim_adapters.igibson.follower import PathFollowerPolicy
from sim_adapters.nav_baselines import run_episode


class ProbeEnv(IGibsonEnv):
    """An IGibsonEnv that can be asked for what iGibson itself says."""

    def play(self, episodes: int) -> list[dict[str, Any]]:
        """Episodes of the shortest-path baseline: the adapter's figures, and iGibson's worked out anew."""
        return [self._play(seed) for seed in range(episodes)]

    def _play(self, seed: int) -> dict[str, Any]:
        policy = PathFollowerPolicy(self)
        observation, info = self.reset(seed=seed)
        task = self.env.task
        geodesic_m = float(task.geodesic_dist)
        potential_m = self._potential()
        where = [np.array(task.robot_pos)]
        expected, ended = 0.0, False
        rewards = []
        while not ended:
            observation, reward, terminated, truncated, info = self.step(policy.act(observation))
            rewards.append(reward)
            hits = len(self.env.collision_links) > 0
            there = np.linalg.norm(self.env.robots[0].get_position()[:2] - task.target_pos[:2])
            new_potential_m = self._potential()
            expected += potential_m - new_potential_m - 0.1 * hits + 10.0 * (there < 0.36)
            potential_m = new_potential_m
            where.append(np.array(self.env.robots[0].get_position()[:2]))
            ended = terminated or truncated
        lengths = np.linalg.norm(np.diff(where, axis=0), axis=1)
        return {
            **info,
            "return": float(sum(rewards)),
            "expected_return": float(expected),
            "expected_path_length": float(lengths.sum()),
            "expected_igibson_path_length": float(lengths[:-1].sum()),
            "geodesic": geodesic_m,
            "terminated": terminated,
            "rho": float(observation["pointgoal"][0]),
        }

    def places(self) -> dict[str, Any]:
        """Where the episode starts and ends."""
        assert self.episode is not None
        return {
            "start": list(self.episode.start_position),
            "goal": list(self.episode.goal_position),
        }

    def _potential(self) -> float:
        """iGibson's geodesic distance by its own A*."""
        scene = self.env.scene
        source, target = self.env.robots[0].get_position()[:2], self.env.task.target_pos[:2]
        return float(
            type(scene).get_shortest_path(scene, self.env.task.floor_num, source, target)[1]
        )

    def distances(self, points: int) -> list[list[float]]:
        """Ours and A*'s from random points, on the graph and off it, to a few goals."""
        scene, rng = self.env.scene, np.random.default_rng(0)
        pairs = []
        for goal in range(4):
            target = scene.get_random_point(0)[1][:2] if goal else np.array([2.95, 2.95])
            for _ in range(points):
                source = rng.uniform(-3.2, 3.2, 2)
                path, ours = scene.get_shortest_path(0, source, target, entire_path=True)
                way, theirs = type(scene).get_shortest_path(scene, 0, source, target, True)
                pairs.append([float(ours), float(theirs), len(path) - len(way)])
        return pairs

    def pixels(self) -> dict[str, float]:
        """Depth pictures against rays through the same pixels of PyBullet's world, metres."""
        import pybullet

        robot, config = self.env.robots[0], self.env.config
        eyes = robot.links["eyes"]
        position, forward = np.array(eyes.get_position()), self.simulator.heading
        depth = self._observation["depth"][..., 0] * float(config["depth_high"])
        size = depth.shape[0]
        half = np.tan(np.radians(config["vertical_fov"]) / 2)
        ahead = np.array([np.cos(forward), np.sin(forward), 0.0])
        left, up = np.array([-ahead[1], ahead[0], 0.0]), np.array([0.0, 0.0, 1.0])
        errors = []
        for row in range(4, size // 2, 9):
            for column in range(4, size, 9):
                u, v = (2 * (column + 0.5) / size - 1) * half, (1 - 2 * (row + 0.5) / size) * half
                ray = ahead - u * left + v * up
                hit = pybullet.rayTest(position + 0.25 * ray, position + 10.0 * ray)[0]
                if hit[0] >= 0 and depth[row, column] > 0:
                    errors.append(abs(0.25 + 9.75 * hit[2] - float(depth[row, column])))
        return {"median": float(np.median(errors)), "rays": len(errors)}


class StockEnv(IGibsonEnv):
    """iGibson's own renderer settings on a driver that cannot run them."""

    def _build(self, *arguments: Any) -> Any:
        from sim_adapters.igibson import env

        choose = env.choose_renderer

        def stock(renderer: str) -> Any:
            settings, said = choose(renderer)
            settings.glsl_version_override = 460
            return settings, said

        env.choose_renderer = stock
        return super()._build(*arguments)


class Checks(gymnasium.Env):
    """Runs a check on fresh environments of a process; as an environment itself it does nothing."""

    observation_space = gymnasium.spaces.Dict({})
    action_space = gymnasium.spaces.Discrete(1)

    def __init__(self, **options: Any) -> None:
        self._options = options

    def run(self, steps: int) -> bool:
        """The adapter's promises, by `check_env`."""
        check_env(lambda: registry.make("igibson", **self._options), steps=steps)
        return True

    def messages(self, cases: list[dict[str, Any]]) -> list[str]:
        """What each change of the options is answered with."""
        said = []
        for changes in cases:
            try:
                registry.make("igibson", **{**self._options, **changes}).close()
                said.append("")
            except Exception as error:
                said.append(f"{type(error).__name__}: {error}")
        return said

    def second(self) -> str:
        """What a second environment beside an open one is answered with."""
        first = registry.make("igibson", **self._options)
        try:
            registry.make("igibson", **self._options)
        except ValueError as error:
            return str(error)
        finally:
            first.close()
        return ""

    def blind(self) -> dict[str, Any]:
        """An episode without pictures."""
        env = registry.make("igibson", **self._options)
        env.unwrapped.stop_rendering()
        info = run_episode(env, PathFollowerPolicy(env), seed=0)
        env.close()
        return info


class GoalOnly(gymnasium.ObservationWrapper):
    """Any navigation environment with the goal alone, so that several kinds have equal spaces."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        super().__init__(registry.make(name, **options))
        goal = self.env.observation_space["pointgoal"]
        self.observation_space = gymnasium.spaces.Dict({"pointgoal": goal})

    def observation(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Leave the pictures out."""
        return {"pointgoal": observation["pointgoal"]}

    def write_megabytes(self, count: int) -> int:
        """Print, from C's point of view, on both streams."""
        for _ in range(count):
            for stream in (1, 2):
                with contextlib.suppress(OSError):
                    os.write(stream, b"x" * (1 << 20))
        return count
