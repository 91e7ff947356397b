"""A PyBullet scene with a disc-shaped agent and a camera: the navigation simulator."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
from gymnasium import spaces

from sim_adapters.bullet import motion
from sim_adapters.bullet.camera import DEPTH_RANGE_M, Camera
from sim_adapters.bullet.geodesic import Point
from sim_adapters.bullet.scene import AGENT_RADIUS_M, Floor, Scene, SceneLibrary
from sim_adapters.bullet.sensor_noise import DepthNoise
from sim_adapters.bullet.stage import Stage
from sim_adapters.bullet.topdown import TopDownMap

SENSORS = ("depth", "rgb")


class BulletSimulator:
    """Kinematic navigation in PyBullet, without a display.

    Motion is exact geometry on the same obstacles that geodesic distances see: a move that would
    touch something stops at the contact, as Habitat does with sliding off, or glides along it.

    Arguments:
        sensors: any of "depth" and "rgb".
        image_size: side of the square pictures, pixels, or (height, width).
        hfov_deg: horizontal field of view.
        allow_sliding: glide along obstacles instead of stopping.
        depth_noise: adds the errors of a depth camera; None for none.
        scenes_dir: folder of Gibson scenes, one folder each.
        agent_radius_m: of the disc that the agent is.
    """

    def __init__(
        self,
        *,
        sensors: Sequence[str] = ("depth",),
        image_size: Any = 64,
        hfov_deg: float = 79.0,
        allow_sliding: bool = False,
        depth_noise: Optional[DepthNoise] = None,
        scenes_dir: str = "",
        agent_radius_m: float = AGENT_RADIUS_M,
    ) -> None:
        import pybullet

        sensors = (sensors,) if isinstance(sensors, str) else tuple(sensors)
        if not sensors or any(sensor not in SENSORS for sensor in sensors):
            raise ValueError(f"sensors must be some of {SENSORS}, got {sensors!r}")
        self.size = _image_size(image_size)
        self.sensors = sensors
        self.allow_sliding = allow_sliding
        self.depth_noise = depth_noise
        self.agent_radius_m = agent_radius_m
        self.library = SceneLibrary(scenes_dir, radius=agent_radius_m)
        self.observation_space = _observation_space(sensors, self.size)
        self._client: Optional[int] = pybullet.connect(pybullet.DIRECT)
        self._camera = Camera(self.size, hfov_deg, self._client, sensors)
        self._stage = Stage(self._client, coloured="rgb" in sensors)
        self._rng = np.random.default_rng(0)
        self._scene: Optional[Scene] = None
        self._floor: Optional[Floor] = None
        self._goal: Optional[np.ndarray] = None
        self._position = np.zeros(3)
        self._heading = 0.0

    @property
    def scene(self) -> Scene:
        """The current scene."""
        if self._scene is None:
            raise RuntimeError("no scene yet: call load_scene first")
        return self._scene

    @property
    def floor(self) -> Floor:
        """The floor the agent stands on."""
        if self._floor is None:
            raise RuntimeError("the agent stands nowhere yet: call load_scene and set_pose first")
        return self._floor

    @property
    def position(self) -> np.ndarray:
        """Where the agent stands: float64 (3,), metres."""
        return self._position.copy()

    @property
    def heading(self) -> float:
        """Where the agent looks: radians in (-pi, pi], counter-clockwise from +x."""
        return self._heading

    def seed(self, seed: int) -> None:
        """Seed the sensor noise."""
        self._rng = np.random.default_rng(seed)

    def load_scene(self, scene_id: str) -> None:
        """Make `scene_id` the current scene."""
        self._scene = self.library(scene_id)
        self._floor = self._scene.floors[0]
        self._goal = None

    def set_pose(self, position: Point, heading: float) -> None:
        """Put the agent on the floor nearest to `position` (x, y, z)."""
        self._floor = self.scene.floor_at(float(position[2]))
        self._position = np.array([position[0], position[1], self._floor.height], dtype=np.float64)
        self._heading = _wrap(float(heading))

    def move(self, forward_m: float, turn_rad: float) -> bool:
        """Turn, then drive; returns whether an obstacle was touched."""
        self._heading = _wrap(self._heading + turn_rad)
        if forward_m == 0.0:
            return False
        start = self._position[:2]
        ahead = np.array([math.cos(self._heading), math.sin(self._heading)])
        end, touched = self.travel(start, forward_m * ahead, self.allow_sliding)
        self._position[:2] = end
        return touched

    def travel(
        self, start: np.ndarray, delta: np.ndarray, sliding: bool
    ) -> Tuple[np.ndarray, bool]:
        """Where a move of the disc on this floor ends, and whether it touched something.

        Arguments:
            start: centre of the disc (2,), metres.
            delta: wished displacement (2,), metres.
            sliding: glide along obstacles instead of stopping.
        """
        if sliding:
            end, touched = motion.slide(start, delta, self.floor.obstacles, self.agent_radius_m)
        else:
            obstacles = self.floor.obstacles
            fraction, index = motion.sweep(start, delta, obstacles, self.agent_radius_m)
            end, touched = start + fraction * delta, index >= 0
        # Gaps narrower than a grid cell can let the disc through to where no distance is known.
        if not self.floor.grid.same_component(start, end):
            return start, True
        return end, touched

    def add_camera(self, **options: Any) -> Camera:
        """Another camera for `shoot`; the options of `Camera` but the client."""
        assert self._client is not None
        return Camera(client=self._client, **options)

    def shoot(self, camera: Camera) -> Dict[str, np.ndarray]:
        """What `camera` sees from where the agent stands, without noise; see `Camera.shoot`."""
        self._stage.show(self.scene)
        layout = self.scene.layout
        light = layout.light if layout is not None else None
        return camera.shoot(self._position, self._heading, light)

    def observe(self) -> Dict[str, np.ndarray]:
        """Pictures from where the agent stands: "depth" (H, W, 1) metres, "rgb" (H, W, 3)."""
        shot = self.shoot(self._camera)
        if self.depth_noise is not None and "depth" in self.sensors:
            shot["depth"] = self.depth_noise.apply(shot["depth"], self._rng, DEPTH_RANGE_M)
        return shot

    def set_goal(self, position: Point) -> None:
        """Set the goal (x, y, z) of the distances that follow."""
        self._goal = np.array(position, dtype=np.float64)

    def distance_to_goal(self, position: Point) -> float:
        """Geodesic metres from `position` (x, y, z) to the goal; inf if unreachable."""
        return self.scene.distance(position, self._require_goal())

    def shortest_path(self, position: Point) -> np.ndarray:
        """Corners (n, 3) of a shortest path to the goal; (0, 3) if there is none."""
        return self.scene.path(position, self._require_goal())

    def top_down(self, size: int = 256) -> Tuple[np.ndarray, np.ndarray, float]:
        """A map of the current floor: picture, place and scale.

        Arguments:
            size: pixels of the longer side.

        Returns the picture, uint8 (H, W, 3) with +y up, the world (x, y) in metres of its lower
        left corner, and its pixels a metre.
        """
        plan = TopDownMap(self.scene, self.floor.height, size)
        return plan.image, plan.low, plan.pixels_per_m

    def close(self) -> None:
        """Disconnect from PyBullet; a second call does nothing."""
        import pybullet

        if self._client is not None:
            pybullet.disconnect(physicsClientId=self._client)
            self._client = None

    def _require_goal(self) -> np.ndarray:
        if self._goal is None:
            raise RuntimeError("no goal yet: call set_goal first")
        return self._goal


def _wrap(angle: float) -> float:
    return math.pi - (math.pi - angle) % (2.0 * math.pi)


def _image_size(size: Any) -> Tuple[int, int]:
    height, width = (size, size) if np.isscalar(size) else tuple(size)
    if int(height) < 1 or int(width) < 1:
        raise ValueError(f"image_size must be at least 1 pixel, got {size!r}")
    return int(height), int(width)


def _observation_space(sensors: Sequence[str], size: Tuple[int, int]) -> spaces.Dict:
    near, far = DEPTH_RANGE_M
    every: Dict[str, spaces.Space[Any]] = {
        "depth": spaces.Box(near, far, (*size, 1), np.float32),
        "rgb": spaces.Box(0, 255, (*size, 3), np.uint8),
    }
    return spaces.Dict({sensor: every[sensor] for sensor in sensors})
