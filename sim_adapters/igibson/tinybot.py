"""A small differential-drive robot with a camera on a mast: its files, and its class for iGibson."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List

import numpy as np

NAME = "Tinybot"
WHEEL_RADIUS_M = 0.05
WHEEL_WIDTH_M = 0.03
AXLE_M = 0.26
BODY_RADIUS_M = 0.17
BODY_HEIGHT_M = 0.25
BODY_BOTTOM_M = 0.03
EYE_HEIGHT_M = 0.6
"""Of the camera above the floor."""
MAX_WHEEL_RADPS = 10.0
"""Half a metre a second."""
CASTER_AT_M = 0.13
CASTER_RADIUS_M = 0.02
#: links whose contact with the floor is no collision: the casters and the wheels
GROUND_LINKS = (0, 1, 2, 3)
CORNERS = 24

_URDF = """<?xml version="1.0"?>
<robot name="tinybot">
  <link name="base_link">
    <inertial>
      <origin xyz="0 0 {middle}"/>
      <mass value="6"/>
      <inertia ixx="0.08" ixy="0" ixz="0" iyy="0.08" iyz="0" izz="0.09"/>
    </inertial>
    <visual>
      <origin xyz="0 0 {middle}"/>
      <geometry><mesh filename="body.obj"/></geometry>
    </visual>
    <collision>
      <origin xyz="0 0 {middle}"/>
      <geometry><cylinder radius="{body_radius}" length="{body_height}"/></geometry>
    </collision>
  </link>
{casters}{wheels}  <link name="eyes">
    <inertial><mass value="0.01"/><inertia ixx="1e-5" ixy="0" ixz="0" iyy="1e-5" iyz="0" izz="1e-5"/></inertial>
  </link>
  <joint name="eyes_joint" type="fixed">
    <parent link="base_link"/><child link="eyes"/>
    <origin xyz="{eye_forward} 0 {eye_height}"/>
  </joint>
</robot>
"""

_CASTER = """  <link name="caster_{name}">
    <inertial><mass value="0.1"/><inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/></inertial>
    <visual><geometry><mesh filename="caster.obj"/></geometry></visual>
    <collision><geometry><sphere radius="{radius}"/></geometry></collision>
    <contact><lateral_friction value="0"/><rolling_friction value="0"/></contact>
  </link>
  <joint name="caster_{name}_joint" type="fixed">
    <parent link="base_link"/><child link="caster_{name}"/>
    <origin xyz="{x} 0 {z}"/>
  </joint>
"""

_WHEEL = """  <link name="wheel_{name}">
    <inertial><mass value="0.3"/><inertia ixx="4e-4" ixy="0" ixz="0" iyy="4e-4" iyz="0" izz="4e-4"/></inertial>
    <visual>
      <origin rpy="1.5707963 0 0"/>
      <geometry><mesh filename="wheel.obj"/></geometry>
    </visual>
    <collision>
      <origin rpy="1.5707963 0 0"/>
      <geometry><cylinder radius="{radius}" length="{width}"/></geometry>
    </collision>
    <contact><lateral_friction value="1"/></contact>
  </link>
  <joint name="wheel_{name}_joint" type="continuous">
    <parent link="base_link"/><child link="wheel_{name}"/>
    <origin xyz="0 {y} {radius}"/>
    <axis xyz="0 1 0"/>
    <limit effort="10" velocity="{speed}"/>
  </joint>
"""


def write_robot(assets: Path) -> None:
    """Write the robot's files into models/tinybot of the folder `assets`."""
    folder = assets / "models" / "tinybot"
    folder.mkdir(parents=True, exist_ok=True)
    radius = CASTER_RADIUS_M
    casters = "".join(
        _CASTER.format(name=name, radius=radius, x=x, z=radius + 0.001)
        for name, x in (("front", CASTER_AT_M), ("rear", -CASTER_AT_M))
    )
    wheels = "".join(
        _WHEEL.format(
            name=name, radius=WHEEL_RADIUS_M, width=WHEEL_WIDTH_M, y=y, speed=MAX_WHEEL_RADPS
        )
        for name, y in (("left", AXLE_M / 2), ("right", -AXLE_M / 2))
    )
    urdf = _URDF.format(
        middle=BODY_BOTTOM_M + BODY_HEIGHT_M / 2,
        body_radius=BODY_RADIUS_M,
        body_height=BODY_HEIGHT_M,
        casters=casters,
        wheels=wheels,
        eye_forward=BODY_RADIUS_M / 2,
        eye_height=EYE_HEIGHT_M,
    )
    (folder / "tinybot.urdf").write_text(urdf, encoding="utf-8")
    # Without a visual mesh PyBullet shows a link's collision shape, for which iGibson wants files of its own assets.
    meshes = {
        "body": _cylinder(BODY_RADIUS_M, BODY_HEIGHT_M),
        "wheel": _cylinder(WHEEL_RADIUS_M, WHEEL_WIDTH_M),
        "caster": _cylinder(radius, 2 * radius),
    }
    for name, mesh in meshes.items():
        (folder / f"{name}.obj").write_text(mesh, encoding="utf-8")


def _cylinder(radius: float, height: float) -> str:
    """An upright cylinder around the origin as one OBJ shape: iGibson's optimized renderer takes no more in a robot."""
    turns = 2.0 * np.pi * np.arange(CORNERS + 1) / CORNERS
    rim = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    lines: List[str] = ["o cylinder"]
    faces: List[List[int]] = []
    count = 0

    def add(points: List[List[float]], normals: List[List[float]]) -> None:
        nonlocal count
        for point, normal in zip(points, normals):
            lines.append("v {:.5f} {:.5f} {:.5f}".format(*point))
            lines.append("vn {:.5f} {:.5f} {:.5f}".format(*normal))
            lines.append(f"vt {0.5 + point[0]:.5f} {0.5 + point[1]:.5f}")
        first = list(range(count + 1, count + len(points) + 1))
        faces.extend([first[0], first[k], first[k + 1]] for k in range(1, len(first) - 1))
        count += len(points)

    half = height / 2
    for a, b in zip(rim[:-1], rim[1:]):
        side = [[*(radius * a), -half], [*(radius * b), -half], [*(radius * b), half]]
        side.append([*(radius * a), half])
        add(side, [[*a, 0.0], [*b, 0.0], [*b, 0.0], [*a, 0.0]])
    for z, order in ((half, rim[:-1]), (-half, rim[:-1][::-1])):
        add([[*(radius * p), z] for p in order], [[0.0, 0.0, np.sign(z)]] * CORNERS)
    lines += ["f " + " ".join(f"{i}/{i}/{i}" for i in face) for face in faces]
    return "\n".join(lines) + "\n"


def register() -> Any:
    """The robot's class; defining it makes iGibson know the name "Tinybot"."""
    import igibson
    from igibson.robots import REGISTERED_ROBOTS
    from igibson.robots.two_wheel_robot import TwoWheelRobot

    if NAME in REGISTERED_ROBOTS:
        return REGISTERED_ROBOTS[NAME]

    class Tinybot(TwoWheelRobot):
        """Two wheels, two casters, a camera."""

        model_name = NAME
        wheel_radius = WHEEL_RADIUS_M
        wheel_axle_length = AXLE_M
        #: left and right among the joints that move
        base_control_idx = np.array([0, 1])

        @property
        def default_joint_pos(self) -> np.ndarray:
            return np.zeros(self.n_joints)

        @property
        def model_file(self) -> str:
            return os.path.join(igibson.assets_path, "models", "tinybot", "tinybot.urdf")

    return Tinybot
