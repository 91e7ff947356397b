"""The agent's camera: TinyRenderer (software, no display) and exact metric depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from sim_adapters.bullet.layout import Light

NEAR_M, FAR_M = 0.05, 40.0
"""Clipping planes. The agent's radius keeps every surface beyond the near one."""
DEPTH_RANGE_M = (0.1, 10.0)
HEIGHT_M = 0.88
DEFAULT_LIGHT = Light((0.4, 0.6, 1.2), (1.0, 1.0, 1.0), 0.6, 0.4)


def linear_depth(buffer: np.ndarray) -> np.ndarray:
    """Metres along the optical axis from an OpenGL depth buffer in [0, 1]."""
    return FAR_M * NEAR_M / (FAR_M - (FAR_M - NEAR_M) * buffer.astype(np.float64))


@dataclass(frozen=True)
class Mount:
    """Where a camera sits on the robot, whose axes are x ahead, y left, z up.

    Attributes:
        offset: (ahead, left, up) of the robot's place on the floor, metres.
        roll, pitch, yaw: turns about x (left side up), y (positive: looks down) and z (positive: looks left),
            in this order, radians.
    """

    offset: Tuple[float, float, float] = (0.0, 0.0, HEIGHT_M)
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0

    def view(
        self, position: np.ndarray, heading: float
    ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eye, a point 1 m before it and the direction up, each (3,), of a robot at a pose."""
        turn = _turn_z(heading)
        axes = turn @ _turn_z(self.yaw) @ _turn_y(self.pitch) @ _turn_x(self.roll)
        eye = np.asarray(position, dtype=np.float64) + turn @ np.array(self.offset)
        return eye, eye + axes[:, 0], axes[:, 2]


def _turn_x(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def _turn_y(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _turn_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


class Camera:
    """A pinhole camera with square pixels.

    Arguments:
        size: (height, width) in pixels.
        hfov_deg: horizontal field of view.
        client: PyBullet's physics client.
        sensors: any of "depth" and "rgb".
        mount: where it sits; by default `HEIGHT_M` above the floor, looking ahead.
        depth_range_m: nearest and farthest depth that it reports.
    """

    def __init__(
        self,
        size: Tuple[int, int],
        hfov_deg: float,
        client: int,
        sensors: Sequence[str] = ("depth", "rgb"),
        mount: Optional[Mount] = None,
        depth_range_m: Tuple[float, float] = DEPTH_RANGE_M,
    ) -> None:
        import pybullet

        if not 0 < hfov_deg < 180:
            raise ValueError(f"hfov_deg must be between 0 and 180, got {hfov_deg!r}")
        self.sensors = tuple(sensors)
        self.size = size
        self.hfov_deg = hfov_deg
        self.mount = mount or Mount()
        self.depth_range_m = depth_range_m
        self._client = client
        height, width = size
        vfov = 2 * math.degrees(math.atan(math.tan(math.radians(hfov_deg) / 2) * height / width))
        projection = list(pybullet.computeProjectionMatrixFOV(vfov, width / height, NEAR_M, FAR_M))
        # TinyRenderer samples a pixel at its lower left corner; half a pixel moves this to the
        # centre, without which left and right would not be alike.
        projection[8], projection[9] = 1.0 / width, 1.0 / height
        self._projection = projection

    def shoot(
        self, position: np.ndarray, heading: float, light: Optional[Light] = None
    ) -> Dict[str, np.ndarray]:
        """Take a picture from a pose.

        Arguments:
            position: of the agent on the floor (3,), metres.
            heading: radians, counter-clockwise from +x.

        Returns those asked for of "rgb", uint8 (H, W, 3), and "depth", float32 (H, W, 1) metres within
        `depth_range_m`; what is farther, or nothing at all, reads as the far end.
        """
        import pybullet

        lamp = light or DEFAULT_LIGHT
        eye, target, up = (v.tolist() for v in self.mount.view(position, heading))
        height, width = self.size
        _, _, rgba, buffer, _ = pybullet.getCameraImage(
            width,
            height,
            pybullet.computeViewMatrix(eye, target, up),
            self._projection,
            lightDirection=lamp.direction,
            lightColor=lamp.colour,
            lightAmbientCoeff=lamp.ambient,
            lightDiffuseCoeff=lamp.diffuse,
            lightSpecularCoeff=0.0,
            shadow=0,
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        shot = {}
        # Without PyBullet's numpy support these are tuples; asarray serves both.
        if "depth" in self.sensors:
            depth = linear_depth(np.asarray(buffer, dtype=np.float32).reshape(height, width, 1))
            shot["depth"] = np.clip(depth, *self.depth_range_m).astype(np.float32)
        if "rgb" in self.sensors:
            rgb = np.asarray(rgba, dtype=np.uint8).reshape(height, width, 4)[:, :, :3]
            shot["rgb"] = np.ascontiguousarray(rgb)
        return shot
