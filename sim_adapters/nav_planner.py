"""Short motion plans for the shortest-path baseline: weighted A* over a simulator's own moves."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from sim_adapters.nav_actions import Actions, Motion
from sim_adapters.pointgoal import NavSimulator

Pose = Tuple[Tuple[float, float, float], float]
PlannedAction = Tuple[Any, Pose]


class _Node(NamedTuple):
    """A pose that was reached: what it cost, how far the goal is, and how it was reached."""

    cost: float
    distance: float
    pose: Pose
    action: Any
    parent: Optional[_Node]


class MotionPlanner:
    """Plans from the robot's pose to the goal, or `horizon_m` nearer to it.

    The cost of an action is the metres it drives, and a little for its turn, for itself and for
    touching something. The heuristic is the geodesic distance times `WEIGHT`: with turns of 30
    degrees a heading is up to 15 degrees off the path, which lengthens it by 1 / cos 15 = 1.035;
    an exact search (weight 1) would first try everything that is less than that longer.

    Args:
        simulator: moved about while planning and put back; its moves must be kinematic, that is,
            a function of the pose.
        actions: what the robot can do.
        has_arrived: (position, geodesic distance) -> whether that is the goal.
    """

    WEIGHT = 1.1
    HORIZON_M = 2.0
    MAX_EXPANSIONS = 3000
    TURN_COST_M_PER_RAD = 0.04
    ACTION_COST_M = 0.002
    COLLISION_COST_M = 0.5
    #: poses nearer to each other than this count as one
    CELL_M = 0.04
    CELL_RAD = math.radians(3.0)

    def __init__(
        self,
        simulator: NavSimulator,
        actions: Actions,
        has_arrived: Callable[[Sequence[float], float], bool],
    ) -> None:
        self._simulator = simulator
        self._has_arrived = has_arrived
        self._moves: List[Tuple[Any, Tuple[Motion, ...]]] = []
        for action in actions.primitives():
            motions = actions.motions(action)
            if motions is not None:
                self._moves.append((action, motions))

    def plan(self) -> List[PlannedAction]:
        """Return the next actions, at least one, each with the pose that it leads to.

        Where the search finds neither the goal nor a pose `HORIZON_M` nearer, the plan leads to
        the nearest pose it found.
        """
        start = self._pose()
        try:
            return _unroll(self._search(start))
        finally:
            self._simulator.set_pose(*start)

    def _pose(self) -> Pose:
        x, y, z = (float(v) for v in self._simulator.position)
        return ((x, y, z), float(self._simulator.heading))

    def _search(self, start: Pose) -> _Node:
        root = _Node(0.0, self._simulator.distance_to_goal(start[0]), start, None, None)
        near_enough = root.distance - self.HORIZON_M
        order = itertools.count()
        queue = [(0.0, next(order), root)]
        cheapest: Dict[Tuple[int, int, int], float] = {}
        best: Optional[_Node] = None
        for _ in range(self.MAX_EXPANSIONS):
            if not queue:
                break
            node = heapq.heappop(queue)[2]
            if node.action is not None:
                if self._has_arrived(node.pose[0], node.distance) or node.distance <= near_enough:
                    return node
                if best is None or node.distance < best.distance:
                    best = node
            for child in self._children(node):
                cell = self._cell(child.pose)
                if child.cost < cheapest.get(cell, math.inf):
                    cheapest[cell] = child.cost
                    priority = child.cost + self.WEIGHT * child.distance
                    heapq.heappush(queue, (priority, next(order), child))
        if best is None:
            raise RuntimeError(f"the robot at {start[0]} cannot move, and has no way to the goal")
        return best

    def _children(self, node: _Node) -> List[_Node]:
        children = []
        for action, motions in self._moves:
            self._simulator.set_pose(*node.pose)
            collided = False
            for motion in motions:
                collided = bool(self._simulator.move(*motion)) or collided
            pose = self._pose()
            distance = float(self._simulator.distance_to_goal(pose[0]))
            if math.isfinite(distance):
                cost = node.cost + self._cost(node.pose, pose, motions, collided)
                children.append(_Node(cost, distance, pose, action, node))
        return children

    def _cost(self, a: Pose, b: Pose, motions: Sequence[Motion], collided: bool) -> float:
        turned = sum(abs(motion.turn_rad) for motion in motions)
        driven = math.sqrt(sum((p - q) ** 2 for p, q in zip(a[0], b[0])))
        cost = driven + self.TURN_COST_M_PER_RAD * turned + self.ACTION_COST_M
        return cost + self.COLLISION_COST_M if collided else cost

    def _cell(self, pose: Pose) -> Tuple[int, int, int]:
        (x, y, _), heading = pose
        turn = round((heading % (2.0 * math.pi)) / self.CELL_RAD)
        around = round(2.0 * math.pi / self.CELL_RAD)
        return round(x / self.CELL_M), round(y / self.CELL_M), turn % around


def _unroll(node: _Node) -> List[PlannedAction]:
    plan: List[PlannedAction] = []
    step: Optional[_Node] = node
    while step is not None and step.parent is not None:
        plan.append((step.action, step.pose))
        step = step.parent
    plan.reverse()
    return plan
