"""Cameras of `Bullet-v0`, described by habitat-lab's own sensor configuration."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
from gym import spaces
from habitat.core.simulator import DepthSensor, RGBSensor, Sensor

from sim_adapters.bullet.camera import Camera, Mount
from sim_adapters.bullet.simulator import BulletSimulator

Pictures = Dict[str, np.ndarray]


class BulletRGBSensor(RGBSensor):
    """Colour, uint8 (H, W, 3)."""

    kind = "rgb"

    def _get_observation_space(self, *args: Any, **kwargs: Any) -> spaces.Box:
        shape = (self.config.height, self.config.width, 3)
        return spaces.Box(0, 255, shape, np.uint8)

    def get_observation(self, pictures: Pictures) -> np.ndarray:
        """The picture as it is."""
        return pictures[self.uuid]


class BulletDepthSensor(DepthSensor):
    """Depth, float32 (H, W, 1): metres in [min_depth, max_depth], or that range as [0, 1]."""

    kind = "depth"

    def _get_observation_space(self, *args: Any, **kwargs: Any) -> spaces.Box:
        low, high = self.config.min_depth, self.config.max_depth
        if self.config.normalize_depth:
            low, high = 0.0, 1.0
        shape = (self.config.height, self.config.width, 1)
        return spaces.Box(np.float32(low), np.float32(high), shape, np.float32)

    def get_observation(self, pictures: Pictures) -> np.ndarray:
        """Metres, or the share of the range."""
        low, high = np.float32(self.config.min_depth), np.float32(self.config.max_depth)
        depth = np.clip(pictures[self.uuid], low, high)
        return (depth - low) / (high - low) if self.config.normalize_depth else depth


_SENSORS = {"HabitatSimRGBSensor": BulletRGBSensor, "HabitatSimDepthSensor": BulletDepthSensor}


def make_sensor(config: Any) -> Sensor:
    """The camera that a sensor configuration of habitat-sim asks for.

    Raises:
        ValueError: there is no such camera, or it asks for a noise model.
    """
    cls = _SENSORS.get(config.type)
    if cls is None:
        raise ValueError(
            f"Bullet-v0 has no sensor of the type {config.type!r}; it has {', '.join(_SENSORS)}"
        )
    if config.noise_model != "None" or config.sensor_subtype != "PINHOLE":
        raise ValueError(
            "Bullet-v0 has pinhole cameras without noise, and the sensor asks for noise_model="
            f"{config.noise_model} and sensor_subtype={config.sensor_subtype}: set None and PINHOLE"
        )
    return cls(config=config)


class Cameras:
    """Every camera of a robot; sensors that look the same way share one picture.

    Args:
        sensors: made by `make_sensor`.
        simulator: renders.
    """

    def __init__(self, sensors: List[Sensor], simulator: BulletSimulator) -> None:
        self._simulator = simulator
        self._sensors = sensors
        groups: Dict[Any, List[Sensor]] = {}
        for sensor in sensors:
            groups.setdefault(_viewpoint(sensor.config), []).append(sensor)
        self._groups = [(self._camera(group), group) for group in groups.values()]

    def _camera(self, group: List[Any]) -> Camera:
        config = group[0].config
        depths = [sensor.config for sensor in group if sensor.kind == "depth"]
        nearest = min((c.min_depth for c in depths), default=0.0)
        farthest = max((c.max_depth for c in depths), default=1.0)
        return self._simulator.add_camera(
            size=(config.height, config.width),
            hfov_deg=float(config.hfov),
            sensors=sorted({sensor.kind for sensor in group}),
            mount=_mount(config),
            depth_range_m=(nearest, farthest),
        )

    def shoot(self) -> Pictures:
        """Pictures by the sensor's uuid; depth in metres."""
        pictures = {}
        for camera, group in self._groups:
            shot = self._simulator.shoot(camera)
            pictures.update({sensor.uuid: shot[sensor.kind] for sensor in group})
        return pictures

    def black(self) -> Pictures:
        """What `shoot` gives, all zeros, at no cost."""
        return {
            s.uuid: np.zeros(s.observation_space.shape, s.observation_space.dtype)
            for s in self._sensors
        }


def _viewpoint(config: Any) -> Tuple[Any, ...]:
    pose = (*config.position, *config.orientation)
    return (config.height, config.width, config.hfov, *(float(v) for v in pose))


def _mount(config: Any) -> Mount:
    """habitat's camera pose, x right, y up, z back, in the robot's axes, x ahead, y left, z up.

    A turn about habitat's x (tilt, positive: up) is minus a pitch, about its y a yaw, about its z
    minus a roll.
    """
    right, up, back = (float(v) for v in config.position)
    tilt, yaw, roll = (float(v) for v in config.orientation)
    return Mount((-back, -right, up), roll=-roll, pitch=-tilt, yaw=yaw)
