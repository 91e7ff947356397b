"""Navigation episodes, and the PointNav-v1 files that habitat-lab keeps them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class Episode:
    """One navigation episode: where the robot starts and where it has to go.

    Positions are (x, y, z) in metres with z up and z the height of the floor; headings are
    radians counter-clockwise from +x seen from above (a left turn is positive).
    """

    episode_id: str
    scene_id: str
    start_position: Tuple[float, float, float]
    start_heading: float
    goal_position: Tuple[float, float, float]
    geodesic_distance: float
