"""habitat-lab's shortest-path follower as a policy of our evaluation; needs habitat-sim."""

from __future__ import annotations

from typing import Any, Dict

import gymnasium
import numpy as np

from sim_adapters.episodes import position_to_habitat


class ShortestPathFollowerPolicy:
    """`habitat.tasks.nav.shortest_path_follower.ShortestPathFollower`, which steers by the mesh.

    Args:
        env: a `HabitatEnv` on habitat-sim with discrete actions, wrapped or not.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        from habitat.tasks.nav.shortest_path_follower import ShortestPathFollower

        inner: Any = env.unwrapped
        self._env = inner
        self._follower = ShortestPathFollower(
            inner.sim, inner.success_distance_m, return_one_hot=False
        )

    def reset(self) -> None:
        """Do nothing: it keeps no plan."""

    def act(self, observation: Dict[str, np.ndarray]) -> int:
        """The next action; where it finds none, stop."""
        goal = np.array(position_to_habitat(self._env.episode.goal_position), np.float32)
        return int(self._follower.get_next_action(goal))
