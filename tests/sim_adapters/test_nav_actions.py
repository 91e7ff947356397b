from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sim_adapters.nav_actions import ActuationNoise, DiscreteActions, Motion, VelocityActions


def velocity_actions(**changes: Any) -> VelocityActions:
    settings: dict[str, Any] = {
        "min_speed_mps": 0.0,
        "max_speed_mps": 0.25,
        "max_turn_rate_dps": 10.0,
        "step_s": 1.0,
        "with_stop": True,
        "stop_speed_mps": 0.025,
        "stop_turn_rate_dps": 1.0,
    }
    return VelocityActions(**{**settings, **changes})


def test_discrete_actions_come_in_habitats_order() -> None:
    actions = DiscreteActions(forward_m=0.25, turn_deg=30, with_stop=True)
    assert actions.space.n == 4
    assert actions.motions(0) is None
    assert actions.motions(1) == (Motion(0.25, 0.0),)
    assert actions.motions(2) == (Motion(0.0, math.pi / 6),)  # left is counter-clockwise
    assert actions.motions(3) == (Motion(0.0, -math.pi / 6),)


def test_without_stop_there_are_three_discrete_actions() -> None:
    actions = DiscreteActions(forward_m=0.25, turn_deg=90, with_stop=False)
    assert actions.space.n == 3
    assert actions.stop is None
    assert actions.motions(0) == (Motion(0.25, 0.0),)
    assert actions.motions(1) == (Motion(0.0, math.pi / 2),)
    assert actions.motions(2) == (Motion(0.0, -math.pi / 2),)


@pytest.mark.parametrize("action", [-1, 4, 1.5, "left"])
def test_a_discrete_action_out_of_range_is_refused(action: Any) -> None:
    actions = DiscreteActions(forward_m=0.25, turn_deg=30, with_stop=True)
    with pytest.raises(ValueError, match=r"integer in \[0, 4\)"):
        actions.motions(action)


def test_velocities_scale_as_in_habitats_velocity_control() -> None:
    # Habitat: linear [-1, 1] -> [0, 0.25] m/s, angular [-1, 1] -> [-10, 10] degrees a second.
    actions = velocity_actions()
    assert actions.velocities([1.0, 1.0]) == pytest.approx((0.25, 10.0))
    assert actions.velocities([-1.0, -1.0]) == pytest.approx((0.0, -10.0))
    assert actions.velocities([0.0, 0.5]) == pytest.approx((0.125, 5.0))
    assert actions.velocities([7.0, -7.0]) == pytest.approx((0.25, -10.0))


def test_a_symmetric_speed_range_drives_backwards() -> None:
    actions = velocity_actions(min_speed_mps=-0.5, max_speed_mps=0.5, step_s=0.1)
    assert actions.velocities([-1.0, 0.0]) == pytest.approx((-0.5, 0.0))
    assert actions.motions([-1.0, 0.0]) == (Motion(-0.05, 0.0), Motion(0.0, 0.0))


@pytest.mark.parametrize(
    ("v", "w", "is_stop"),
    [
        (-1.0, 0.0, True),  # 0 m/s, 0 deg/s
        (-0.81, 0.09, True),  # 0.02375 m/s, 0.9 deg/s: both below
        (-0.79, 0.0, False),  # 0.02625 m/s is above 0.025
        (-1.0, 0.11, False),  # 1.1 deg/s is above 1
        (-1.0, -0.11, False),
    ],
)
def test_stop_is_when_both_velocities_are_below_their_thresholds(
    v: float, w: float, is_stop: bool
) -> None:
    assert (velocity_actions().motions([v, w]) is None) == is_stop
    assert velocity_actions(with_stop=False).motions([v, w]) is not None


def test_the_stop_action_means_stop() -> None:
    for lowest in (0.0, -0.25):
        actions = velocity_actions(min_speed_mps=lowest)
        assert actions.motions(actions.stop) is None


def test_a_turning_drive_ends_where_the_arc_ends() -> None:
    # v = 0.25 m/s, w = 90 deg/s for 1 s from the origin facing +x: a quarter circle of radius
    # r = v / w = 0.25 / (pi / 2) = 0.159155 about (0, r), which ends at (r, r) facing +y.
    motions = velocity_actions(max_turn_rate_dps=90.0).motions([1.0, 1.0])
    assert motions is not None
    heading, x, y = 0.0, 0.0, 0.0
    for forward, turn in motions:
        heading += turn
        x, y = x + forward * math.cos(heading), y + forward * math.sin(heading)
    assert (x, y) == pytest.approx((0.159155, 0.159155), abs=1e-6)
    assert heading == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("action", [[0.0], [math.nan, 0.0], [[0.0, 0.0]]])
def test_a_malformed_velocity_is_refused(action: Any) -> None:
    with pytest.raises(ValueError, match="two finite numbers"):
        velocity_actions().motions(action)


def test_action_inverts_velocities() -> None:
    actions = velocity_actions(min_speed_mps=-0.1)
    assert actions.velocities(actions.action(0.07, -3.0)) == pytest.approx((0.07, -3.0), abs=1e-6)


@pytest.mark.parametrize(
    "changes", [{"step_s": 0.0}, {"max_speed_mps": 0.0}, {"min_speed_mps": 0.1}]
)
def test_impossible_velocity_ranges_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        velocity_actions(**changes)


def test_noise_has_the_standard_deviations_asked_for() -> None:
    noise = ActuationNoise(forward_std_m=0.02, turn_std_deg=3.0)
    rng = np.random.default_rng(0)
    samples = np.array([noise.apply(Motion(0.25, 0.1), rng) for _ in range(4000)])
    # Standard errors with n = 4000: of a mean, std / 63; of a standard deviation, std / 89.
    assert samples[:, 0].mean() == pytest.approx(0.25, abs=0.0015)
    assert samples[:, 0].std() == pytest.approx(0.02, abs=0.0012)
    assert samples[:, 1].mean() == pytest.approx(0.1, abs=0.004)
    assert np.degrees(samples[:, 1].std()) == pytest.approx(3.0, abs=0.18)


def test_a_turn_on_the_spot_does_not_drive_under_noise() -> None:
    noise = ActuationNoise(forward_std_m=0.5, turn_std_deg=1.0)
    assert noise.apply(Motion(0.0, 0.5), np.random.default_rng(0)).forward_m == 0.0


def test_negative_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=">= 0"):
        ActuationNoise(forward_std_m=-0.1)
