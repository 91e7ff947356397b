"""The suite through our adapter, against the suite driven by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import sim_adapters
from sim_adapters import mujoco_gl, registry
from sim_adapters.check import check_env
from sim_adapters.mujoco_gl import RenderingUnavailable
from sim_adapters.vector import EnvSpec, VectorEnv

if registry._entry("dmc").missing() is not None:
    pytest.skip("dm_control is not installed: pip install 'dreamer-nav[dmc]'", True)

from sim_adapters.dmc import DMControlEnv, tasks

PROPRIOCEPTION = ["proprioception"]


@pytest.fixture(scope="module")
def gl() -> str:
    """An OpenGL library that draws; tests without one are skipped."""
    try:
        return mujoco_gl.import_for_rendering()
    except RenderingUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def make() -> Iterator[Any]:
    """Build environments that are closed at the end of the test."""
    built: list[DMControlEnv] = []

    def build(task: str, **options: Any) -> DMControlEnv:
        built.append(DMControlEnv(task=task, **{"sensors": PROPRIOCEPTION, **options}))
        return built[-1]

    yield build
    for env in built:
        env.close()


def by_hand(domain: str, task: str, seed: int) -> Any:
    """The suite's own environment with the random state that `reset(seed=seed)` gives."""
    mujoco_gl.import_without_rendering()
    from dm_control import suite

    env = suite.load(domain, task, task_kwargs={"random": 0})
    env.task.random.seed(seed)
    env.reset()
    return env


def actions(env: DMControlEnv, count: int) -> list[np.ndarray]:
    env.action_space.seed(3)
    return [env.action_space.sample() for _ in range(count)]


# -- steps, rewards, ends --------------------------------------------------------------------------


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_the_reward_is_the_sum_over_the_repeats(make: Any, repeat: int) -> None:
    env = make("walker_walk", action_repeat=repeat)
    reference = by_hand("walker", "walk", seed=5)
    env.reset(seed=5)
    for action in actions(env, 20):
        observation, reward, *_ = env.step(action)
        steps = [reference.step(action) for _ in range(repeat)]
        assert reward == sum(s.reward for s in steps)
        np.testing.assert_array_equal(
            observation["velocity"], steps[-1].observation["velocity"].astype(np.float32)
        )


def test_the_time_limit_truncates_and_never_terminates(make: Any) -> None:
    env = make("cartpole_balance")
    env.reset(seed=0)
    assert env.max_steps == 500
    for action in actions(env, 499):
        assert env.step(action)[2:4] == (False, False)
    assert env.step(np.zeros(1, np.float32))[2:4] == (False, True)


def test_a_repeat_stops_at_the_end_of_the_episode(make: Any) -> None:
    """1000 control steps are 333 agent steps of 3 and one of 1, not the start of a new episode."""
    env = make("cartpole_balance", action_repeat=3)
    reference = by_hand("cartpole", "balance", seed=0)
    env.reset(seed=0)
    action = np.full(1, 0.1, np.float32)
    assert env.max_steps == 334
    for _ in range(333):
        assert not env.step(action)[3]
    for _ in range(999):
        reference.step(action)
    observation, reward, terminated, truncated, _ = env.step(action)
    last = reference.step(action)
    assert last.last()
    assert (reward, terminated, truncated) == (last.reward, False, True)
    np.testing.assert_array_equal(
        observation["position"], last.observation["position"].astype(np.float32)
    )


def test_a_discount_of_zero_terminates_and_does_not_truncate(make: Any) -> None:
    """`lqr` ends once its state is at the origin, and has no time limit."""
    env = make("lqr_lqr_2_1")
    env.reset(seed=0)
    assert env.max_steps is None
    assert env.step(np.zeros(1, np.float32))[2:4] == (False, False)
    with env._env.physics.reset_context():
        env._env.physics.data.qpos[:] = 0.0
    assert env.step(np.zeros(1, np.float32))[2:4] == (True, False)


def test_a_step_after_the_end_asks_for_a_reset(make: Any) -> None:
    env = make("cartpole_balance", action_repeat=1000)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(1, np.float32))
    env.reset(seed=0)
    assert env.step(np.zeros(1, np.float32))[3]
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(1, np.float32))


# -- seeds -----------------------------------------------------------------------------------------


def walk(env: DMControlEnv, seed: int | None, steps: int = 6) -> np.ndarray:
    observations = [env.reset(seed=seed)[0]]
    observations += [env.step(action)[0] for action in actions(env, steps)]
    return np.concatenate([part for o in observations for part in o.values()])


@pytest.mark.parametrize("task", tasks())
def test_a_seed_reproduces_a_trajectory_exactly(make: Any, task: str) -> None:
    if task == "quadruped_escape":
        pytest.importorskip("OpenGL")
        try:
            mujoco_gl.import_for_rendering()
        except RenderingUnavailable as error:
            pytest.skip(str(error))
    env, other = make(task), make(task)
    first = walk(env, seed=7)
    walk(env, seed=None)
    np.testing.assert_array_equal(walk(env, seed=7), first)
    np.testing.assert_array_equal(walk(other, seed=7), first)
    assert not np.array_equal(walk(env, seed=8), first)


def test_without_a_seed_the_stream_goes_on(make: Any) -> None:
    env, other = make("reacher_easy"), make("reacher_easy")
    env.reset(seed=1)
    other.reset(seed=1)
    second = walk(env, None)
    assert not np.array_equal(second, walk(make("reacher_easy"), seed=1))
    np.testing.assert_array_equal(walk(other, None), second)
    assert not np.array_equal(walk(make("reacher_easy"), None), walk(make("reacher_easy"), None))


def test_a_seed_of_more_than_32_bits_is_not_cut_off(make: Any) -> None:
    env = make("reacher_easy")
    assert not np.array_equal(walk(env, 5 + 2**40), walk(env, 5))
    np.testing.assert_array_equal(walk(env, 5 + 2**40), walk(env, 5 + 2**40))


# -- observations and actions ----------------------------------------------------------------------


def test_a_scalar_is_a_vector_of_one_entry(make: Any) -> None:
    env = make("walker_walk")
    observation, _ = env.reset(seed=0)
    assert env.observation_space["height"].shape == (1,)
    assert observation["height"].shape == (1,)
    assert observation["height"].dtype == np.float32
    assert observation["height"][0] == np.float32(env._env.physics.torso_height())


@pytest.mark.parametrize("task", [t for t in tasks() if t != "quadruped_escape"])
def test_no_observation_is_dropped(make: Any, task: str) -> None:
    env = make(task)
    raw = env._env.task.get_observation(env._env.physics)
    spec = {key: (max(1, np.size(value)),) for key, value in raw.items()}
    assert {key: space.shape for key, space in env.observation_space.spaces.items()} == spec
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)


def test_a_matrix_is_flattened_row_by_row(make: Any) -> None:
    env = make("stacker_stack_2")
    observation, _ = env.reset(seed=0)
    raw = env._env.task.get_observation(env._env.physics)["box_pos"]
    assert raw.shape == (2, 4)
    np.testing.assert_array_equal(observation["box_pos"][4:], raw[1].astype(np.float32))


@pytest.mark.parametrize("sensors", [["pixels"], ["proprioception"], ["pixels", "proprioception"]])
def test_observations_are_what_is_asked_for(gl: str, make: Any, sensors: list[str]) -> None:
    expected = {"pixels": {"image"}, "proprioception": {"position", "velocity"}}
    wanted = set().union(*(expected[s] for s in sensors))
    env = make("cartpole_balance", sensors=sensors)
    assert set(env.observation_space.spaces) == wanted
    assert set(env.reset(seed=0)[0]) == wanted


@pytest.mark.parametrize("sensors", [[], ["camera"], ["pixels", "depth"]])
def test_other_sensors_are_refused(make: Any, sensors: list[str]) -> None:
    with pytest.raises(ValueError, match="one or more of pixels, proprioception"):
        make("cartpole_balance", sensors=sensors)


def test_actions_are_scaled_to_the_bounds_of_each_actuator(make: Any) -> None:
    env = make("quadruped_walk", action_repeat=1)
    spec = env._env.action_spec()
    assert not np.array_equal(spec.maximum, np.ones(12))
    assert env.action_space.low.tolist() == [-1.0] * 12
    assert env.action_space.high.tolist() == [1.0] * 12
    env.reset(seed=0)
    for action, control in (
        (-1.0, spec.minimum),
        (1.0, spec.maximum),
        (0.5, spec.minimum + 0.75 * (spec.maximum - spec.minimum)),
    ):
        env.step(np.full(12, action, np.float32))
        np.testing.assert_allclose(env._env.physics.control(), control, rtol=1e-12)


def test_actuators_without_bounds_are_not_scaled(make: Any) -> None:
    env = make("lqr_lqr_6_2")
    env.reset(seed=0)
    env.step(np.array([0.5, -1.0], np.float32))
    np.testing.assert_array_equal(env._env.physics.control(), [0.5, -1.0])


@pytest.mark.parametrize("action", [1.5, np.nan])
def test_an_action_outside_the_space_is_refused(make: Any, action: float) -> None:
    env = make("cartpole_balance")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must be in"):
        env.step(np.array([action], np.float32))


# -- tasks -----------------------------------------------------------------------------------------


def test_names_with_underscores_are_split_where_the_suite_does(make: Any) -> None:
    assert {"humanoid_stand", "humanoid_walk", "humanoid_run"} <= set(tasks())
    for task, catch in (
        ("ball_in_cup_catch", True),
        ("cup_catch", True),
        ("point_mass_easy", False),
    ):
        kind = type(make(task)._env.task).__name__
        assert kind == ("BallInCup" if catch else "PointMass")


@pytest.mark.parametrize(
    ("task", "nearest"), [("walker_wlak", "walker_walk"), ("cup_cach", "cup_catch")]
)
def test_an_unknown_task_is_answered_with_the_nearest(make: Any, task: str, nearest: str) -> None:
    with pytest.raises(
        ValueError, match=f"no task '{task}'. Did you mean '{nearest}'.*humanoid_run"
    ):
        make(task)


def test_wrong_options_are_refused_before_anything_is_loaded(make: Any) -> None:
    with pytest.raises(ValueError, match="action_repeat must be >= 1, got 0"):
        make("cartpole_balance", action_repeat=0)
    with pytest.raises(ValueError, match=r"image_size must be pixels or \(height, width\), got 0"):
        make("cartpole_balance", image_size=0)
    with pytest.raises(ValueError, match="render_mode"):
        make("cartpole_balance", render_mode="human")


# -- the contract ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["walker_walk", "manipulator_bring_ball", "lqr_lqr_2_1"])
def test_proprioception_keeps_the_contract(task: str) -> None:
    check_env(lambda: sim_adapters.make("dmc", task=task, sensors=PROPRIOCEPTION))


def test_pixels_keep_the_contract(gl: str) -> None:
    check_env(
        lambda: sim_adapters.make(
            "dmc",
            task="cartpole_balance",
            action_repeat=50,
            sensors=["pixels", "proprioception"],
            shadows=False,
        ),
        steps=30,
    )


def test_it_runs_in_worker_processes(gl: str) -> None:
    options = {"task": "cartpole_balance", "sensors": ["pixels", "proprioception"]}
    envs = VectorEnv([EnvSpec("dmc", options) for _ in range(2)])
    try:
        observations, _ = envs.reset(seed=[4, 5])
        here = DMControlEnv(**options)  # type: ignore[arg-type]
        for index, seed in enumerate((4, 5)):
            expected, _ = here.reset(seed=seed)
            for key, value in expected.items():
                np.testing.assert_array_equal(observations[key][index], value)
        here.close()
    finally:
        envs.close()


# -- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shape"), [(64, (64, 64, 3)), ((48, 32), (48, 32, 3)), (700, (700, 700, 3))]
)
def test_pictures_have_the_size_asked_for(gl: str, make: Any, size: Any, shape: Any) -> None:
    env = make("walker_walk", sensors=["pixels"], image_size=size)
    image = env.reset(seed=0)[0]["image"]
    assert (image.shape, image.dtype) == (shape, np.uint8)
    assert env.observation_space["image"].shape == shape


def test_pictures_are_those_that_the_suite_draws(gl: str, make: Any) -> None:
    env = make("walker_walk", sensors=["pixels"])
    reference = by_hand("walker", "walk", seed=2)
    first = env.reset(seed=2)[0]["image"]
    kept = first.copy()
    for action in actions(env, 10):
        image = env.step(action)[0]["image"]
        for _ in range(2):
            reference.step(action)
    expected = reference.physics.render(64, 64, camera_id=0)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(first, kept)  # not drawn over by the pictures that follow
    assert image.std() > 10
    assert (image != first).mean() > 0.05
    reference.physics.free()


@pytest.mark.parametrize(
    ("task", "camera", "drawn"),
    [
        ("walker_walk", None, 0),
        ("quadruped_run", None, 2),
        ("quadruped_run", 1, 1),
        ("walker_walk", -1, -1),
    ],
)
def test_the_camera_is_the_domains_or_the_one_asked_for(
    gl: str, make: Any, task: str, camera: int | None, drawn: int
) -> None:
    env = make(task, sensors=["pixels"], camera=camera)
    image = env.reset(seed=1)[0]["image"]
    physics = env._env.physics
    others = {n: physics.render(64, 64, camera_id=n) for n in range(-1, physics.model.ncam)}
    np.testing.assert_array_equal(image, others.pop(drawn))
    assert all((image != other).any() for other in others.values())


def test_a_camera_that_the_task_lacks_is_refused(gl: str, make: Any) -> None:
    for camera in (2, -2):
        with pytest.raises(ValueError, match=rf"camera must be in \[-1, 2\), got {camera}"):
            make("walker_walk", sensors=["pixels"], camera=camera)


def test_shadows_can_be_left_out(gl: str, make: Any) -> None:
    with_shadows = make("walker_walk", sensors=["pixels"])
    without = make("walker_walk", sensors=["pixels"], shadows=False)
    image = with_shadows.reset(seed=0)[0]["image"]
    plain = with_shadows._camera.render(render_flag_overrides={"shadow": False})
    np.testing.assert_array_equal(without.reset(seed=0)[0]["image"], plain)
    assert (image != plain).any()


def test_render_gives_the_picture(gl: str, make: Any) -> None:
    env = make("walker_walk", sensors=["pixels"], render_mode="rgb_array")
    np.testing.assert_array_equal(env.reset(seed=0)[0]["image"], env.render())
    assert make("walker_walk").render() is None


# -- which OpenGL library --------------------------------------------------------------------------


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process where dm_control is not imported yet."""
    environment = {
        k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")
    }
    environment.update(variables, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


PIXELS = """
import os, sim_adapters
env = sim_adapters.make("dmc", task="cartpole_balance")
print(os.environ["MUJOCO_GL"], int(env.reset(seed=0)[0]["image"].max()) > 0)
"""


def test_a_library_that_draws_is_found(gl: str) -> None:
    done = run(PIXELS)
    assert done.stdout.split()[-2:] == [gl, "True"], done.stderr


def test_a_library_that_does_not_draw_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def try_it(backend: str) -> str | None:
        tried.append(backend)
        return "no device" if backend == "egl" else None

    monkeypatch.setattr(mujoco_gl, "CANDIDATES", ("egl", "osmesa"))
    monkeypatch.setattr(mujoco_gl, "_try", try_it)
    assert mujoco_gl.find_backend() == "osmesa"
    assert tried == ["egl", "osmesa"]


def test_the_trial_tells_a_picture_from_a_failure(gl: str) -> None:
    assert mujoco_gl._try(gl) is None
    assert "No OpenGL rendering backend" in str(mujoco_gl._try("disabled"))


def test_a_black_picture_is_a_failure(gl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mujoco_gl, "_TRY", "print('pixels', 0)")
    assert mujoco_gl._try(gl) == "the picture is black"


def test_where_nothing_draws_the_message_says_what_to_install() -> None:
    # EGL with no device of that number, and OSMesa named as a library that is not there.
    code = "from sim_adapters import mujoco_gl\nmujoco_gl.CANDIDATES = ('egl',)\n" + PIXELS
    done = run(code, MUJOCO_EGL_DEVICE_ID="99")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert "RenderingUnavailable" in last
    assert "egl: " in last
    assert "libegl1 libgl1-mesa-dri" in last
    assert "libosmesa6" in last
    assert "sensors=['proprioception']" in last


def test_a_library_named_by_the_user_is_taken(gl: str) -> None:
    code = "from sim_adapters import mujoco_gl\nmujoco_gl.find_backend = None\n" + PIXELS
    done = run(code, MUJOCO_GL=gl)
    assert done.stdout.split()[-2:] == [gl, "True"], done.stderr


@pytest.mark.parametrize(
    ("value", "extra"),
    [("osmesa", "osmesa"), ("glfw", "glfw"), ("egl", "EGL"), ("nonsense", "nonsense")],
)
def test_a_library_named_by_the_user_is_not_replaced(value: str, extra: str) -> None:
    done = run(PIXELS, MUJOCO_GL=value, MUJOCO_EGL_DEVICE_ID="99", DISPLAY="")
    if value == "osmesa" and done.stdout.split()[-2:] == ["osmesa", "True"]:
        pytest.skip("OSMesa draws here")
    last = [line for line in done.stderr.splitlines() if "RenderingUnavailable" in line]
    assert done.returncode != 0
    assert last, done.stderr
    assert f"MUJOCO_GL={value} does not render here" in last[-1]
    assert "apt install" in last[-1]


def test_rendering_that_the_user_forbids_is_refused_and_proprioception_is_not() -> None:
    done = run(PIXELS, MUJOCO_GL="disabled")
    assert "MUJOCO_GL=disabled forbids rendering" in done.stderr
    code = PIXELS.replace('balance"', 'balance", sensors=["proprioception"]').replace(
        "image", "position"
    )
    assert run(code, MUJOCO_GL="disabled").stdout.split()[-2] == "disabled"


def test_proprioception_loads_no_opengl_and_leaves_the_way_open_for_pictures(gl: str) -> None:
    code = """
import os, sys, sim_adapters
env = sim_adapters.make("dmc", task="cartpole_balance", sensors=["proprioception"])
env.reset(seed=0)
loaded = [m for m in sys.modules if m.startswith(("OpenGL", "dm_control._render.pyopengl"))]
print(loaded, "MUJOCO_GL" in os.environ)
"""
    done = run(code + PIXELS)
    assert done.stdout.splitlines()[-2:] == ["[] False", f"{gl} True"], done.stderr


def test_the_simulator_is_imported_on_first_use_only() -> None:
    code = "import sys, sim_adapters.dmc\nprint([m for m in sys.modules if 'mujoco' in m or 'dm_' in m])"
    assert run(code).stdout.strip() == "['sim_adapters.mujoco_gl']"
