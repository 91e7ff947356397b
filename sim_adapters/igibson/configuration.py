"""iGibson's YAML configuration with our options in it, checked before the simulator starts."""

from __future__ import annotations

import copy
import difflib
import glob
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Set, Tuple

from sim_adapters.igibson.errors import IGibsonError

SENSORS = ("rgb", "depth")
TASKS = ("point_nav_fixed", "point_nav_random")
STATIC, INTERACTIVE = "gibson", "igibson"
STATIC_FILES = ("mesh_z_up.obj", "floors.txt", "floor_trav_0.png")
DOWNLOADS = "https://stanfordvl.github.io/iGibson/dataset.html"
#: read by iGibson, but in none of its files
MORE_KEYS = {
    "enable_shadow",
    "enable_pbr",
    "texture_scale",
    "fall_off_thresh",
    "initial_pos",
    "initial_orn",
    "target_pos",
    "collision_ignore_body_b_ids",
    "num_waypoints",
    "waypoint_resolution",
    "load_object_categories",
    "not_load_object_categories",
    "load_room_types",
    "load_room_instances",
    "agent_pose",
}


@dataclass(frozen=True)
class Choice:
    """Options that change the configuration; empty, 0 and None leave it as it is."""

    scene: str
    task: str
    robot: str
    sensors: Tuple[str, ...]
    image_size: Tuple[int, ...]
    max_steps: int
    texture_randomization: int
    overrides: Mapping[str, Any]


def compose(config: str, choice: Choice) -> Dict[str, Any]:
    """The configuration as iGibsonEnv takes it.

    Args:
        config: the name of one of iGibson's files, such as "locobot_nav", or a YAML file.
        choice: what to change.

    Raises:
        IGibsonError: an unknown file or option, or a task, scene, robot or sensor that is not there.
    """
    settings = _read(config)
    _check_keys(choice.overrides)
    settings = _merge(settings, choice.overrides)
    if choice.scene:
        settings["scene_id"] = choice.scene
    if choice.task:
        settings["task"] = choice.task
    if choice.max_steps:
        settings["max_step"] = choice.max_steps
    if choice.texture_randomization:
        settings["texture_randomization_freq"] = choice.texture_randomization
    if any(choice.image_size):
        if len(choice.image_size) != 2 or min(choice.image_size) < 1:
            raise IGibsonError(
                f"image_size must be a side or (height, width), pixels, got {choice.image_size}"
            )
        settings["image_height"], settings["image_width"] = choice.image_size
    robot = dict(settings.get("robot") or {})
    robot["name"] = choice.robot or robot.get("name", "")
    # Its discrete actions fail in iGibson 2.2.2 (`len` of an int): ours are a table over the continuous ones.
    robot["action_type"], robot["action_normalize"] = "continuous", True
    settings["robot"] = robot
    settings["output"] = ["task_obs", *_sensors(settings, choice.sensors)]
    settings["goal_format"], settings["task_obs_dim"] = "polar", 4
    settings["build_graph"] = True  # the task asks for geodesic distances whatever its reward
    _check_task(settings)
    return settings


def _read(config: str) -> Dict[str, Any]:
    import igibson
    import yaml

    path = config
    if not config.endswith((".yaml", ".yml")):
        path = os.path.join(igibson.configs_path, config + ".yaml")
    try:
        with open(path, encoding="utf-8") as file:
            settings = yaml.safe_load(file)
    except FileNotFoundError as error:
        known = sorted(
            os.path.basename(p)[:-5] for p in glob.glob(igibson.configs_path + "/*.yaml")
        )
        raise IGibsonError(
            f"config: there is no {path}; give a YAML file, or a name among {', '.join(known)}"
        ) from error
    except yaml.YAMLError as error:
        raise IGibsonError(f"config: {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict) or "scene" not in settings:
        raise IGibsonError(f"config: {path} is no configuration of iGibson: it has no 'scene'")
    return settings


def _check_keys(overrides: Mapping[str, Any]) -> None:
    known = _known_keys()
    for key in overrides:
        if key not in known:
            close = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise IGibsonError(f"overrides: iGibson's configuration has no {key!r}.{hint}")


def _known_keys() -> Set[str]:
    import igibson
    import yaml

    keys = set(MORE_KEYS)
    for path in glob.glob(igibson.configs_path + "/*.yaml"):
        with open(path, encoding="utf-8") as file:
            keys.update(yaml.safe_load(file))
    return keys


def _merge(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> Dict[str, Any]:
    merged = copy.deepcopy(dict(settings))
    for key, value in changes.items():
        there = merged.get(key)
        if isinstance(there, dict) and isinstance(value, Mapping):
            merged[key] = _merge(there, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _sensors(settings: Mapping[str, Any], wanted: Tuple[str, ...]) -> List[str]:
    sensors = wanted or tuple(s for s in settings.get("output", ()) if s in SENSORS)
    unknown = [sensor for sensor in sensors if sensor not in SENSORS]
    if unknown or not sensors:
        raise IGibsonError(
            f"sensors must be among {', '.join(SENSORS)}, at least one, got {', '.join(sensors) or 'none'}"
        )
    return [sensor for sensor in SENSORS if sensor in sensors]


def _check_task(settings: Mapping[str, Any]) -> None:
    if settings.get("task") not in TASKS:
        raise IGibsonError(f"task must be one of {', '.join(TASKS)}, got {settings.get('task')!r}")
    if settings["scene"] not in (STATIC, INTERACTIVE):
        raise IGibsonError(
            f"overrides: scene must be {STATIC} (static meshes) or {INTERACTIVE} (interactive "
            f"scenes), got {settings['scene']!r}"
        )
    frequency = settings.get("texture_randomization_freq")
    if settings["scene"] == STATIC and frequency is not None:
        raise IGibsonError(
            "texture_randomization: iGibson randomises the textures of interactive scenes only, and this "
            "configuration has scene: gibson"
        )


def check_scene(settings: Mapping[str, Any]) -> None:
    """Refuse a scene that is not there, or not all of it.

    Raises:
        IGibsonError: what is missing, and where it comes from.
    """
    import igibson

    scene = str(settings["scene_id"])
    if settings["scene"] == STATIC:
        folder = igibson.g_dataset_path
        _check_name(scene, folder, "Gibson's static scenes")
        missing = [f for f in STATIC_FILES if not os.path.isfile(os.path.join(folder, scene, f))]
        if missing:
            raise IGibsonError(f"the scene {scene} in {folder} lacks {', '.join(missing)}")
        return
    folder = igibson.ig_dataset_path
    _check_name(scene, os.path.join(folder, "scenes"), "iGibson's interactive scenes (ig_dataset)")
    categories = os.path.join(folder, "metadata", "categories.txt")
    if not os.path.isfile(categories):
        raise IGibsonError(f"ig_dataset lacks {categories}: download it again ({DOWNLOADS})")
    description = os.path.join(folder, "scenes", scene, "urdf", f"{scene}_best.urdf")
    if not os.path.isfile(description):
        raise IGibsonError(
            f"the scene {scene} lacks {description}: download ig_dataset again ({DOWNLOADS})"
        )
    encrypted = glob.iglob(
        os.path.join(folder, "objects", "*", "*", "shape", "visual", "*.encrypted.obj")
    )
    if next(encrypted, None) is not None and not os.path.isfile(igibson.key_path):
        raise IGibsonError(
            f"ig_dataset is encrypted and its key is missing: put igibson.key at {igibson.key_path} (it comes "
            f"with the licence, {DOWNLOADS})"
        )


def _check_name(scene: str, folder: str, what: str) -> None:
    if not os.path.isdir(folder):
        raise IGibsonError(
            f"{what} are missing: there is no folder {folder}; see {DOWNLOADS}, or try the tiny scene "
            "(preset igibson_tiny)"
        )
    there = [name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))]
    if scene not in there:
        close = difflib.get_close_matches(scene, there, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise IGibsonError(
            f"there is no scene {scene!r} in {folder}.{hint} There: {', '.join(sorted(there)[:20]) or 'none'}"
        )


def check_robot(name: str) -> None:
    """Refuse a robot that iGibson does not know or that does not drive on two wheels.

    Raises:
        IGibsonError: it is one of these.
    """
    from igibson.robots import REGISTERED_ROBOTS
    from igibson.robots.manipulation_robot import ManipulationRobot
    from igibson.robots.two_wheel_robot import TwoWheelRobot

    driving = sorted(
        key
        for key, kind in REGISTERED_ROBOTS.items()
        if issubclass(kind, TwoWheelRobot) and not issubclass(kind, ManipulationRobot)
    )
    if name not in driving:
        raise IGibsonError(f"robot must be one of {', '.join(driving)}, got {name!r}")
