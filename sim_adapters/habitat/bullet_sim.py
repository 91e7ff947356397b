"""`Bullet-v0`: our PyBullet scenes as a simulator of habitat-lab.

Importing this module registers it; `habitat` must be importable by then (see `importing.py`). Poses are habitat's:
(x, y, z) in metres with y up, rotations a quaternion whose forward is -z. They are the poses of our own frame, z up,
turned; nothing is scaled or shifted.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import quaternion
from gym import spaces
from habitat.config.default import get_agent_config
from habitat.core.registry import registry
from habitat.core.simulator import (
    AgentState,
    Observations,
    SensorSuite,
    ShortestPathPoint,
    Simulator,
)
from habitat.sims.habitat_simulator.actions import HabitatSimActions
from habitat.tasks.nav import nav

from sim_adapters.bullet.scene import is_procedural
from sim_adapters.bullet.simulator import BulletSimulator
from sim_adapters.episodes import (
    heading_from_habitat,
    heading_to_habitat,
    position_from_habitat,
    position_to_habitat,
)
from sim_adapters.habitat import velocity
from sim_adapters.habitat.bullet_sensors import Cameras, make_sensor
from sim_adapters.habitat.navmesh import NavMesh
from sim_adapters.nav_actions import DiscreteActions
from sim_adapters.nav_planner import MotionPlanner

velocity.lend_to(nav)


@registry.register_simulator(name="Bullet-v0")
class BulletSim(Simulator):
    """Navigation in procedural homes and Gibson-layout meshes, for one robot, without habitat-sim.

    It obeys, of `habitat.simulator`: `forward_step_size`, `turn_angle`, `scene`, the robot's
    `radius`, start pose and `sim_sensors` (RGB and depth: size, field of view, pose, depth range),
    and `habitat_sim_v0.allow_sliding`. Sizes of the body other than its radius do nothing: it fits
    under no table.

    A scene is the name of a procedural one ("apartment-train-00017"), whatever folder and ending
    stand around it, or a folder in the Gibson layout.

    Attributes:
        rendering: False gives black pictures at no cost, for policies that look at none.
        robot: the simulator behind, in our own frame.
        pathfinder: what there is of habitat-sim's.
    """

    def __init__(self, config: Any) -> None:
        if len(config.agents) != 1:
            raise ValueError(f"Bullet-v0 has one robot, and the configuration {len(config.agents)}")
        self.habitat_config = config
        agent = get_agent_config(config)
        sensors = [make_sensor(sensor) for sensor in agent.sim_sensors.values()]
        self._sensor_suite = SensorSuite(sensors)
        self.robot = BulletSimulator(
            sensors=sorted({sensor.kind for sensor in sensors}) or ("depth",),
            image_size=1,
            allow_sliding=bool(config.habitat_sim_v0.allow_sliding),
            scenes_dir=str(Path(config.scene).parent),
            agent_radius_m=float(agent.radius),
        )
        self._cameras = Cameras(sensors, self.robot)
        self.rendering = True
        self.pathfinder = NavMesh(self.robot)
        self.config = SimpleNamespace(
            sim_cfg=SimpleNamespace(allow_sliding=self.robot.allow_sliding),
            enable_batch_renderer=False,
        )
        self._rng = np.random.default_rng(int(config.seed))
        self._action_space = spaces.Discrete(4)
        self._collided = False
        self._prev_sim_obs: Dict[str, Any] = {}  # habitat-lab's velocity control writes here
        self._load(config)

    def _load(self, config: Any) -> None:
        self.robot.library.scenes_dir = str(Path(config.scene).parent)
        self.robot.load_scene(scene_name(config.scene))

    @property
    def sensor_suite(self) -> SensorSuite:
        """The cameras."""
        return self._sensor_suite

    @property
    def action_space(self) -> spaces.Discrete:
        """stop, forward, left, right."""
        return self._action_space

    @property
    def up_vector(self) -> np.ndarray:
        """+y."""
        return np.array([0.0, 1.0, 0.0])

    @property
    def forward_vector(self) -> np.ndarray:
        """-z."""
        return np.array([0.0, 0.0, -1.0])

    @property
    def previous_step_collided(self) -> bool:
        """Whether the last action touched an obstacle."""
        return self._collided

    def seed(self, seed: int) -> None:
        """Seed `sample_navigable_point`."""
        self._rng = np.random.default_rng(seed)

    def reconfigure(self, config: Any, episode: Any = None) -> None:
        """Load the scene of `config` and put the robot at its start pose."""
        self.habitat_config = config
        self._load(config)
        self._to_start()

    def _to_start(self) -> None:
        agent = get_agent_config(self.habitat_config)
        if agent.is_set_start_state:
            self.set_agent_state(agent.start_position, agent.start_rotation)
        self._collided = False

    def reset(self) -> Observations:
        """Put the robot at its start pose and look."""
        self._to_start()
        return self._observe()

    def step(self, action: Optional[int], *args: Any, **kwargs: Any) -> Observations:
        """Take an action, or with None only look."""
        if action is None:
            # Only velocity control leaves anything here: it moves the robot without `step`.
            self._collided = bool(self._prev_sim_obs.pop("collided", False))
        else:
            forward_m, turn_rad = self._motion(int(action))
            self._collided = self.robot.move(forward_m, turn_rad)
        return self._observe()

    def _motion(self, action: int) -> Tuple[float, float]:
        turn = math.radians(float(self.habitat_config.turn_angle))
        motions = {
            HabitatSimActions.stop: (0.0, 0.0),
            HabitatSimActions.move_forward: (float(self.habitat_config.forward_step_size), 0.0),
            HabitatSimActions.turn_left: (0.0, turn),
            HabitatSimActions.turn_right: (0.0, -turn),
        }
        if action not in motions:
            raise ValueError(f"Bullet-v0 knows the actions {sorted(motions)}, got {action}")
        return motions[action]

    def step_physics(self, dt: float) -> None:
        """Do nothing: motion is kinematic."""

    def _observe(self) -> Observations:
        pictures = self._cameras.shoot() if self.rendering else self._cameras.black()
        return self._sensor_suite.get_observations(pictures)

    def get_agent_state(self, agent_id: int = 0) -> AgentState:
        """Where the robot stands: float64 (3,) and a `quaternion.quaternion`."""
        position = np.array(position_to_habitat(self.robot.position.tolist()))
        x, y, z, w = heading_to_habitat(self.robot.heading)
        return AgentState(position, quaternion.quaternion(w, x, y, z))

    def get_agent(self, agent_id: int = 0) -> SimpleNamespace:
        """An object whose `state` is the robot's."""
        return SimpleNamespace(state=self.get_agent_state(agent_id))

    def set_agent_state(
        self,
        position: Sequence[float],
        rotation: Any,
        agent_id: int = 0,
        reset_sensors: bool = True,
    ) -> bool:
        """Put the robot somewhere, on the floor there.

        Arguments:
            position: (x, y, z), metres.
            rotation: a quaternion, (x, y, z, w) or a `quaternion.quaternion`.
        """
        if isinstance(rotation, quaternion.quaternion):
            rotation = (rotation.x, rotation.y, rotation.z, rotation.w)
        self.robot.set_pose(position_from_habitat(position), heading_from_habitat(rotation))
        return True

    def get_observations_at(
        self,
        position: Optional[Sequence[float]] = None,
        rotation: Any = None,
        keep_agent_at_new_pose: bool = False,
    ) -> Observations:
        """What the robot would see from another pose."""
        before = self.get_agent_state()
        if position is not None and rotation is not None:
            self.set_agent_state(position, rotation)
        observations = self._observe()
        if not keep_agent_at_new_pose:
            self.set_agent_state(before.position, before.rotation)
        return observations

    def geodesic_distance(self, position_a: Any, position_b: Any, episode: Any = None) -> float:
        """Metres to `position_b`, or to the nearest of several; inf if there is no way."""
        start = position_from_habitat(position_a)
        goals = np.atleast_2d(np.asarray(position_b, dtype=np.float64))
        scene = self.robot.scene
        return min(scene.distance(start, position_from_habitat(goal)) for goal in goals)

    def get_straight_shortest_path_points(
        self, position_a: Any, position_b: Any
    ) -> List[np.ndarray]:
        """Corners of a shortest path, both ends included; none if there is no way."""
        start, goal = position_from_habitat(position_a), position_from_habitat(position_b)
        path = self.robot.scene.path(start, goal)
        return [np.array(position_to_habitat(corner)) for corner in path]

    def action_space_shortest_path(
        self,
        source: AgentState,
        targets: Sequence[AgentState],
        agent_id: int = 0,
        success_distance_m: float = 0.2,
    ) -> List[ShortestPathPoint]:
        """Poses and actions from `source` to the nearest of `targets`, the last action None.

        Empty if none can be reached, or not in 1,000 actions.
        """
        goals = [target.position for target in targets]
        ways = [self.geodesic_distance(source.position, goal) for goal in goals]
        if not math.isfinite(min(ways)):
            return []
        before = self.get_agent_state()
        try:
            self.set_agent_state(source.position, source.rotation)
            self.robot.set_goal(position_from_habitat(goals[int(np.argmin(ways))]))
            return self._drive(success_distance_m)
        finally:
            self.set_agent_state(before.position, before.rotation)

    def _drive(self, success_distance_m: float) -> List[ShortestPathPoint]:
        actions = DiscreteActions(
            forward_m=float(self.habitat_config.forward_step_size),
            turn_deg=float(self.habitat_config.turn_angle),
            with_stop=True,
        )
        planner = MotionPlanner(self.robot, actions, lambda _, way: way < success_distance_m)
        points: List[ShortestPathPoint] = []
        while len(points) < 1000:
            state = self.get_agent_state()
            if self.robot.distance_to_goal(self.robot.position) < success_distance_m:
                points.append(ShortestPathPoint(state.position, state.rotation, None))
                return points
            for action, pose in planner.plan():
                state = self.get_agent_state()
                points.append(ShortestPathPoint(state.position, state.rotation, action))
                self.robot.set_pose(*pose)
        return []

    def sample_navigable_point(self) -> List[float]:
        """A random point where the robot can stand."""
        return self.pathfinder.get_random_navigable_point(self._rng)

    def is_navigable(self, point: Sequence[float]) -> bool:
        """Whether the robot can stand at `point`."""
        return self.pathfinder.is_navigable(point)

    def island_radius(self, position: Sequence[float]) -> float:
        """Radius, metres, of the connected area around `position`."""
        return self.pathfinder.island_radius(position)

    def distance_to_closest_obstacle(
        self, position: Sequence[float], max_search_radius: float = 2.0
    ) -> float:
        """Metres that the robot can move from `position` in every direction."""
        return self.pathfinder.distance_to_closest_obstacle(position, max_search_radius)

    def render(self, mode: str = "rgb") -> np.ndarray:
        """The picture of the sensor called `mode`."""
        observations = self._observe()
        if mode not in observations:
            raise ValueError(f"the sensors are {', '.join(observations)}, got {mode!r}")
        return observations[mode]

    def close(self, destroy: bool = True) -> None:
        """Let go of PyBullet; a second call does nothing."""
        self.robot.close()


def scene_name(scene: str) -> str:
    """Our name of a scene of a configuration: a procedural scene's own, else the path as it is."""
    name = Path(scene).stem
    return name if is_procedural(name) else scene
