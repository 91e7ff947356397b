"""Writes PointNav-v1 episodes of Bullet-v0 scenes, for habitat-lab and habitat-baselines.

`python -m sim_adapters.habitat.episodes FOLDER --split train --scenes 200 --episodes 50` writes
`FOLDER/train/train.json.gz` and `FOLDER/train/content/<scene>.json.gz`, as the official data sets have it. The
episodes are habitat-lab's own (`generate_pointnav_episode`): start and goal on one floor, 1 to 30 m apart, ways with a
bend preferred.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from sim_adapters.bullet.sampling import Difficulty, draw_episode
from sim_adapters.bullet.scene import AGENT_RADIUS_M, POOL, TIERS, procedural_id
from sim_adapters.episodes import heading_to_habitat, position_to_habitat
from sim_adapters.habitat.errors import HabitatError

NEAR = Difficulty(0.05, 0.5, 0.0)
"""Not at the goal itself: habitat-lab divides by the distance."""


def write_episodes(
    folder: Path,
    split: str,
    scenes: Iterable[str],
    episodes_per_scene: int,
    *,
    seed: int = 0,
    radius: float = AGENT_RADIUS_M,
    near_per_scene: int = 0,
) -> int:
    """Write a split of a data set; the same arguments write the same bytes.

    Args:
        folder: of the data set; `FOLDER/{split}/{split}.json.gz` is its `data_path`.
        split: its name.
        scenes: procedural scenes' names, or folders in the Gibson layout.
        episodes_per_scene: how many in each.
        seed: of the draws.
        radius: of the robot, metres: who is thicker may find ways closed.
        near_per_scene: how many more begin within 0.5 m of their goal, for training alone: even random
            actions then find what stopping there is worth.

    Returns:
        How many episodes were written.
    """
    from sim_adapters.habitat.bullet_sim import scene_name

    target = folder / split
    count = 0
    per_scene = (episodes_per_scene, near_per_scene)
    for scene, episodes in _generate(scenes, per_scene, seed, radius):
        for index, episode in enumerate(episodes):
            episode.episode_id = str(count + index)
        count += len(episodes)
        _write(target / "content" / f"{Path(scene_name(scene)).stem}.json.gz", episodes)
    _write(target / f"{split}.json.gz", [])
    return count


def _generate(
    scenes: Iterable[str], per_scene: Tuple[int, int], seed: int, radius: float
) -> Iterator[Tuple[str, List[Any]]]:
    """Each scene and its episodes."""
    from sim_adapters.habitat.importing import import_habitat

    import_habitat()
    from habitat.config import read_write
    from habitat.config.default import get_config
    from habitat.datasets.pointnav.pointnav_generator import generate_pointnav_episode
    from habitat.sims import make_sim

    simulator: Any = None
    config: Any = None
    for number, scene in enumerate(scenes):
        if config is None:
            config = get_config(
                "benchmark/nav/pointnav/pointnav_base.yaml",
                ["habitat.simulator.type=Bullet-v0", f"habitat.simulator.scene='{scene}'"],
            ).habitat.simulator
            with read_write(config):
                config.agents.main_agent.sim_sensors = {}
                config.agents.main_agent.radius = radius
            simulator = make_sim(config.type, config=config)
        with read_write(config):
            config.scene = scene
        simulator.reconfigure(config)
        simulator.seed([seed, number])
        np.random.seed([seed, number])  # habitat-lab's generator draws from the global state
        drawn = list(generate_pointnav_episode(simulator, per_scene[0], is_gen_shortest_path=False))
        yield scene, drawn + _near_episodes(simulator, per_scene[1], [seed, number])
    if simulator is not None:
        simulator.close()


def _near_episodes(simulator: Any, count: int, seed: List[int]) -> List[Any]:
    """Episodes in the simulator's scene whose goal is a step or two away."""
    from habitat.datasets.pointnav.pointnav_generator import _create_episode

    rng = np.random.default_rng(seed)
    episodes: List[Any] = []
    while len(episodes) < count:
        near = draw_episode(simulator.robot.scene, rng, NEAR)
        if near is not None:
            episode = _create_episode(
                episode_id="",
                scene_id=simulator.habitat_config.scene,
                start_position=list(position_to_habitat(near.start_position)),
                start_rotation=list(heading_to_habitat(near.start_heading)),
                target_position=list(position_to_habitat(near.goal_position)),
                radius=0.2,
                info={"geodesic_distance": near.geodesic_distance},
            )
            episodes.append(episode)
    return episodes


def _write(path: Path, episodes: List[Any]) -> None:
    """habitat-lab's own JSON of the episodes, gzip-compressed without the time of writing."""
    from habitat.datasets.pointnav.pointnav_dataset import PointNavDatasetV1

    dataset = PointNavDatasetV1()
    dataset.episodes = episodes
    text = dataset.to_json() if episodes else json.dumps({"episodes": []})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sim_adapters.habitat.episodes",
        description="Write PointNav-v1 episodes of Bullet-v0 scenes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of the data set")
    parser.add_argument(
        "--tier", choices=TIERS, default="apartment", help="kind of procedural scenes"
    )
    parser.add_argument("--split", choices=sorted(POOL), default="train", help="its scenes differ")
    parser.add_argument("--scenes", type=int, default=100, help="how many procedural scenes")
    parser.add_argument("--episodes", type=int, default=50, help="episodes in each scene")
    parser.add_argument(
        "--near", type=int, default=0, help="more in each that begin within 0.5 m of their goal"
    )
    parser.add_argument(
        "--scene", action="append", default=[], help="a folder in the Gibson layout instead"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--radius", type=float, default=AGENT_RADIUS_M, help="of the robot, metres")
    options = parser.parse_args(arguments)
    try:
        scenes = options.scene or [
            procedural_id(options.tier, options.split, n) for n in range(options.scenes)
        ]
        count = write_episodes(
            options.folder,
            options.split,
            _with_bar(scenes),
            options.episodes,
            seed=options.seed,
            radius=options.radius,
            near_per_scene=options.near,
        )
    except (HabitatError, OSError, ValueError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    print(f"{count} episodes in {len(scenes)} scenes: {options.folder / options.split}")
    return 0


def _with_bar(scenes: Sequence[str]) -> Iterable[str]:
    from tqdm import tqdm  # habitat-lab needs it too

    return tqdm(scenes, unit="scene", leave=False)


if __name__ == "__main__":
    sys.exit(main())
