"""From a configuration's name and overrides to habitat-lab's configuration and episodes, with one-line errors."""

from __future__ import annotations

import contextlib
import difflib
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from sim_adapters.habitat.errors import HabitatError

GROUP = "benchmark/nav/pointnav"
BULLET = "Bullet-v0"
DATASETS = "DATASETS.md of habitat-lab says where"


class Choice(NamedTuple):
    """What a user may say besides the configuration itself; empty and 0 leave it as it is.

    Attributes:
        split: of the data set.
        episodes: a PointNav-v1 file to use instead of the data set's split.
        simulator: "Sim-v0" or "Bullet-v0".
        sensors: names of the cameras that are kept.
        image_size: (height, width) of every camera, pixels.
        max_steps: time limit of an episode.
    """

    split: str = ""
    episodes: str = ""
    simulator: str = ""
    sensors: Tuple[str, ...] = ()
    image_size: Tuple[int, int] = (0, 0)
    max_steps: int = 0


def compose(name: str, overrides: Sequence[str], choice: Choice) -> Any:
    """habitat-lab's whole configuration, `habitat.*`, with SoftSPL and collisions measured.

    Args:
        name: of a PointNav configuration ("pointnav_gibson"), a path inside habitat-lab's `config`, or a YAML file.
        overrides: hydra's, such as "habitat.seed=1" or "habitat/dataset/pointnav=gibson_v2".
        choice: see `Choice`.

    Raises:
        HabitatError: an unknown name, override or sensor.
    """
    from habitat.config import read_write
    from habitat.config.default import get_config

    path = _find(name)
    try:
        with _apart_from_running_hydra():
            config = get_config(path, list(overrides))
    except Exception as error:  # hydra, OmegaConf and their parsers raise a score of classes
        reason = " ".join(str(error).split())
        raise HabitatError(f"the configuration {name!r} cannot be composed: {reason}") from error
    with read_write(config):
        _apply(config.habitat, choice)
    return config


@contextlib.contextmanager
def _apart_from_running_hydra() -> Iterator[None]:
    """Let a configuration be composed inside a program that Hydra started, such as habitat-baselines."""
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = running


def _find(name: str) -> str:
    """A file that habitat-lab's `get_config` finds."""
    from habitat.config.default import _HABITAT_CFG_DIR as folder

    for path in (name, f"{name}.yaml", f"{GROUP}/{name}.yaml"):
        if os.path.isfile(path):
            return os.path.abspath(path)
        if os.path.isfile(os.path.join(folder, path)):
            return path
    known = sorted(file.stem for file in Path(folder, GROUP).glob("*.yaml"))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise HabitatError(
        f"no configuration {name!r}.{hint} Give the path of a YAML file, or one of {', '.join(known)}"
    )


def add_measures(habitat: Any) -> None:
    """Have SoftSPL and collisions measured, which `HabitatEnv` reports besides the configuration's own."""
    from habitat.config.default_structured_configs import (
        CollisionsMeasurementConfig,
        SoftSPLMeasurementConfig,
    )

    measurements = habitat.task.measurements
    for key, config in (
        ("soft_spl", SoftSPLMeasurementConfig()),
        ("collisions", CollisionsMeasurementConfig()),
    ):
        if key not in measurements:
            measurements[key] = config


def _apply(habitat: Any, choice: Choice) -> None:
    add_measures(habitat)
    if choice.simulator:
        habitat.simulator.type = choice.simulator
    if choice.max_steps:
        habitat.environment.max_episode_steps = choice.max_steps
    if choice.split:
        habitat.dataset.split = choice.split
    if choice.episodes:
        _use_file(habitat, choice.episodes)
    _choose_cameras(habitat, choice)


def _use_file(habitat: Any, file: str) -> None:
    """Take the episodes of one file; braces in its name would be read as a place for the split."""
    habitat.dataset.data_path = os.path.abspath(file).replace("{", "{{").replace("}", "}}")
    if habitat.simulator.type == BULLET and not os.path.isdir(habitat.dataset.scenes_dir):
        habitat.dataset.scenes_dir = os.path.dirname(os.path.abspath(file))


def _choose_cameras(habitat: Any, choice: Choice) -> None:
    for agent in habitat.simulator.agents.values():
        names = {key: key.replace("_sensor", "") for key in agent.sim_sensors}
        unknown = [s for s in choice.sensors if s not in names.values()]
        if unknown:
            raise HabitatError(
                f"the configuration has no sensor {unknown[0]!r}; it has {', '.join(names.values())}"
            )
        for key, name in names.items():
            if choice.sensors and name not in choice.sensors:
                del agent.sim_sensors[key]
            elif choice.image_size[0]:
                sensor = agent.sim_sensors[key]
                sensor.height, sensor.width = choice.image_size


def load_dataset(habitat: Any) -> Any:
    """The data set of the configuration, with at least one episode and all its scenes.

    Raises:
        HabitatError: a missing data set, split or scene, or a file that cannot be read.
    """
    from habitat.datasets import make_dataset

    settings = habitat.dataset
    path = settings.data_path.format(split=settings.split)
    if not os.path.isfile(path):
        raise HabitatError(_missing_dataset(habitat, path))
    try:
        dataset = make_dataset(settings.type, config=settings)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise HabitatError(
            f"the episodes in {path} cannot be read ({type(error).__name__}: {reason})"
        ) from error
    if not dataset.episodes:
        raise HabitatError(
            f"{path} has no episode of the scenes {list(settings.content_scenes)} "
            "(habitat.dataset.content_scenes)"
        )
    _check_scenes(dataset, habitat.simulator.type)
    return dataset


def _missing_dataset(habitat: Any, path: str) -> str:
    settings = habitat.dataset
    present = _splits(settings.data_path)
    if present:
        return (
            f"the data set has no split {settings.split!r}: there is no {path}; "
            f"splits that are there: {', '.join(present)}"
        )
    if habitat.simulator.type == BULLET:
        folder = settings.data_path.split("{split}")[0].rstrip("/")
        return (
            f"there are no episodes at {path}; make some: "
            f"python -m sim_adapters.habitat.episodes {folder} --split {settings.split}"
        )
    return (
        f"there are no episodes at {path}: download them ({DATASETS}) into {os.getcwd()}/data, or "
        "say where they are: habitat.dataset.data_path"
    )


def _splits(pattern: str) -> List[str]:
    """Names that may stand for {split} in the pattern."""
    head, found, _ = pattern.partition("{split}")
    folder = Path(head or ".")
    if not found or not folder.is_dir():
        return []
    names = sorted(p.name for p in folder.iterdir() if p.is_dir())
    return [name for name in names if os.path.isfile(pattern.format(split=name))]


def _check_scenes(dataset: Any, simulator: str) -> None:
    places: Dict[str, bool] = {}
    for episode in dataset.episodes:
        if episode.scene_id not in places:
            places[episode.scene_id] = _has_scene(episode, simulator)
    absent = sorted(scene for scene, there in places.items() if not there)
    if not absent:
        return
    if simulator == BULLET:
        remedy = "a scene is procedural (apartment-train-00017) or a folder in the Gibson layout"
    else:
        remedy = f"download them ({DATASETS}), or say where they are: habitat.dataset.scenes_dir"
    raise HabitatError(
        f"{len(absent)} of the {len(places)} scenes of these episodes are missing, the first is "
        f"{absent[0]}; {remedy}"
    )


def _has_scene(episode: Any, simulator: str) -> bool:
    if simulator != BULLET:
        # With a scene data set configuration, names are looked up in that.
        return os.path.exists(episode.scene_id) or episode.scene_dataset_config != "default"
    from sim_adapters.bullet.gibson import gibson_folder
    from sim_adapters.bullet.scene import is_procedural

    if is_procedural(Path(episode.scene_id).stem):
        return True
    try:
        gibson_folder(episode.scene_id, str(Path(episode.scene_id).parent))
    except FileNotFoundError:
        return False
    return True


def check_gpu(habitat: Any) -> None:
    """Refuse a GPU that is not there: habitat-sim would end the process.

    Raises:
        HabitatError: habitat.simulator.habitat_sim_v0.gpu_device_id is none of this machine's.
    """
    if habitat.simulator.type == BULLET:
        return
    wanted, count = int(habitat.simulator.habitat_sim_v0.gpu_device_id), count_gpus()
    if wanted < count:
        return
    have = (
        f"{count} NVIDIA GPU{'s' * (count != 1)} here, counted from 0"
        if count
        else "no NVIDIA GPU here"
    )
    raise HabitatError(
        f"the GPU {wanted} of habitat.simulator.habitat_sim_v0.gpu_device_id does not exist: "
        f"{have}; -1 renders in software"
    )


def count_gpus() -> int:
    """How many NVIDIA GPUs this process may use; more than enough where they cannot be counted."""
    folder = Path("/proc/driver/nvidia/gpus")
    if not Path("/proc").is_dir() or Path("/dev/dxg").exists():
        return 1000  # neither macOS nor Windows' Linux has the folder
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    return len(list(folder.iterdir())) if folder.is_dir() else 0
