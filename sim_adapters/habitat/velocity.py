"""The four names of habitat-sim that habitat-lab's velocity control uses, in NumPy.

habitat-lab's `VelocityAction` takes them from its own module, where they are missing without habitat-sim.
"""

from __future__ import annotations

import math
import types
from typing import Any, Sequence

import numpy as np
import quaternion

from sim_adapters.habitat.navmesh import Vector


class Quaternion:
    """Like magnum's: a vector part and a scalar part."""

    def __init__(self, vector: Sequence[float], scalar: float) -> None:
        self.vector, self.scalar = Vector.of(vector), float(scalar)


class RigidState:
    """Where a body is: `rotation` and `translation`."""

    def __init__(self, rotation: Quaternion, translation: Sequence[float]) -> None:
        self.rotation, self.translation = rotation, Vector.of(translation)


class VelocityControl:
    """Moves a rigid body with constant velocities in its own frame."""

    def __init__(self) -> None:
        self.linear_velocity = np.zeros(3)
        self.angular_velocity = np.zeros(3)

    def integrate_transform(self, time_step: float, state: RigidState) -> RigidState:
        """Where the body is `time_step` seconds later: as habitat-sim, the translation first, in the
        direction that it looks, then the turn."""
        start = quaternion.quaternion(state.rotation.scalar, *state.rotation.vector)
        moved = quaternion.rotate_vectors(start, np.asarray(self.linear_velocity) * time_step)
        speed = float(np.linalg.norm(self.angular_velocity))
        end = start
        if speed > 0.0:
            half = 0.5 * speed * time_step
            axis = np.asarray(self.angular_velocity) / speed * math.sin(half)
            end = (start * quaternion.quaternion(math.cos(half), *axis)).normalized()
        rotation = Quaternion((end.x, end.y, end.z), end.w)
        return RigidState(rotation, np.asarray(state.translation) + moved)


def lend_to(nav: Any) -> None:
    """Give habitat-lab's `habitat.tasks.nav.nav` the names, unless habitat-sim has given them."""
    if not hasattr(nav, "VelocityControl"):
        nav.VelocityControl, nav.RigidState = VelocityControl, RigidState
        nav.mn = types.SimpleNamespace(Quaternion=Quaternion)
