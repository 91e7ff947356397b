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
from typing import Any, Iterable, List, Optional, Sequence

import numpy as np

from sim_adapters.bullet.scene import AGENT_RADIUS_M, POOL, TIERS, procedural_id
from sim_adapters.habitat.errors import HabitatError


def write_episodes(
    folder: Path,
    split: str,
    scenes: Sequence[str],
    episodes_per_scene: int,
    *,
    seed: int = 0,
    radius: float = AGENT_RADIUS_M,
    progress: Optional[Iterable[str]] = None,
) -> int:
    """Write a split of a data set; the same arguments write the same bytes.

    Args:
        folder: of the data set; `FOLDER/{split}/{split}.json.gz` is its `data_path`.
        split: its name.
        scenes: procedural scenes' names, or folders in the Gibson layout.
        episodes_per_scene: how many in each.
        seed: of the draws.
        radius: of the robot, metres: who is thicker may find ways closed.
        progress: the scenes again, wrapped so that they show how far it is.

    Returns:
        How many episodes were written.
    """
    from sim_adapters.habitat.bullet_sim import scene_name

    target = folder / split
    count = 0
    for number, (scene, episodes) in enumerate(
        _generate(progress or scenes, episodes_per_scene, seed, radius)
    ):
        for episode in episodes:
            episode.episode_id = f"{number * episodes_per_scene + int(episode.episode_id)}"
        count += len(episodes)
        _write(target / "content" / f"{Path(scene_name(scene)).stem}.json.gz", episodes)
    _write(target / f"{split}.json.gz", [])
    return count


def _generate(scenes: Iterable[str], count: int, seed: int, radius: float) -> Any:
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
        yield scene, list(generate_pointnav_episode(simulator, count, is_gen_shortest_path=False))
    if simulator is not None:
        simulator.close()


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
            scenes,
            options.episodes,
            seed=options.seed,
            radius=options.radius,
            progress=_with_bar(scenes),
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
