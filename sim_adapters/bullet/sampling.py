"""Draws PointGoal episodes in a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from sim_adapters.bullet.scene import POOL, Floor, Scene, procedural_id
from sim_adapters.episodes import Episode


@dataclass(frozen=True)
class Difficulty:
    """Which start-goal pairs are wanted.

    Attributes:
        nearest, farthest: limits of the geodesic distance, metres.
        blocked_share: share of episodes in which an obstacle stands between start and goal.
    """

    nearest: float
    farthest: float
    blocked_share: float


DIFFICULTY: Dict[str, Difficulty] = {
    "room": Difficulty(1.5, 7.0, 0.62),
    "apartment": Difficulty(3.0, 15.0, 0.9),
}
GIBSON = Difficulty(1.0, 30.0, 0.6)
NEAR = Difficulty(0.0, 0.5, 0.0)
"""A goal a step or two away: in training, even random actions then find what stopping there is worth."""
ATTEMPTS = 400


def draw_episode(
    scene: Scene, rng: np.random.Generator, difficulty: Difficulty, episode_id: str = "0"
) -> Optional[Episode]:
    """One episode in `scene`, or None if it has no pair of the wanted kind.

    Start and goal are centres of cells of the largest connected area on which the agent touches
    nothing; the heading is uniform.
    """
    floor = scene.floors[int(rng.integers(len(scene.floors)))]
    blocked = bool(rng.random() < difficulty.blocked_share)
    for _ in range(8):
        goal = _point(floor, rng)
        field = floor.grid.field(goal)
        for _ in range(ATTEMPTS // 8):
            start = _point(floor, rng)
            distance = float(field[floor.grid.index(start)])
            if not difficulty.nearest <= distance <= difficulty.farthest:
                continue
            if floor.grid.line_is_free(start, goal) == blocked:
                continue
            return _episode(scene, floor, start, goal, rng, episode_id)
    return None


def _point(floor: Floor, rng: np.random.Generator) -> np.ndarray:
    return floor.grid.centre(floor.standing[int(rng.integers(len(floor.standing)))])


def _episode(
    scene: Scene,
    floor: Floor,
    start: np.ndarray,
    goal: np.ndarray,
    rng: np.random.Generator,
    episode_id: str,
) -> Episode:
    return Episode(
        episode_id=episode_id,
        scene_id=scene.scene_id,
        start_position=(float(start[0]), float(start[1]), floor.height),
        start_heading=float(rng.uniform(-np.pi, np.pi)),
        goal_position=(float(goal[0]), float(goal[1]), floor.height),
        geodesic_distance=floor.grid.distance(start, goal),
    )


class SampledEpisodes:
    """An endless source of episodes in randomly chosen scenes.

    Arguments:
        scene_ids: the scenes to choose from.
        scene: builds a scene from its name; its cache is shared with the simulator.
        difficulty: which pairs are wanted.
        near_share: share of the episodes that are `NEAR` instead.
    """

    def __init__(
        self,
        scene_ids: Sequence[str],
        scene: Callable[[str], Scene],
        difficulty: Difficulty,
        near_share: float = 0.0,
    ) -> None:
        if not scene_ids:
            raise ValueError("no scenes to draw episodes from")
        if not 0 <= near_share <= 1:
            raise ValueError(f"near_share must be between 0 and 1, got {near_share!r}")
        self.scene_ids: Tuple[str, ...] = tuple(scene_ids)
        self._scene = scene
        self._difficulty = difficulty
        self._near_share = near_share

    def __call__(self, rng: np.random.Generator) -> Episode:
        """The next episode, a function of `rng` alone.

        Raises:
            RuntimeError: no scene has a pair of the wanted kind.
        """
        near = self._near_share > 0 and bool(rng.random() < self._near_share)
        difficulty = NEAR if near else self._difficulty
        for _ in range(50):
            scene_id = self.scene_ids[int(rng.integers(len(self.scene_ids)))]
            number = str(int(rng.integers(2**31)))
            episode = draw_episode(self._scene(scene_id), rng, difficulty, number)
            if episode is not None:
                return episode
        raise RuntimeError(
            f"no start and goal between {difficulty.nearest} and {difficulty.farthest} m "
            f"apart in 50 tries over {len(self.scene_ids)} scenes"
        )


def procedural_ids(tier: str, split: str) -> Tuple[str, ...]:
    """Names of all scenes of a tier's split."""
    procedural_id(tier, split, 0)
    return tuple(procedural_id(tier, split, n) for n in range(POOL[split]))
