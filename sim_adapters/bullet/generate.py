"""Writes the fixed validation episodes of a tier.

`python -m sim_adapters.bullet.generate --tier room --split val --episodes 100 --output FILE`
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from sim_adapters.bullet.sampling import DIFFICULTY, draw_episode
from sim_adapters.bullet.scene import POOL, TIERS, SceneLibrary, procedural_id
from sim_adapters.episodes import Episode, save_episodes


def generate(tier: str, split: str, count: int, seed: int = 0) -> List[Episode]:
    """Draw `count` episodes, going through the scenes of the split in order.

    Raises:
        RuntimeError: too few of the split's scenes have a fitting pair of start and goal.
    """
    library = SceneLibrary()
    episodes: List[Episode] = []
    for attempt in range(2 * count + 10):
        if len(episodes) == count:
            return episodes
        scene = library(procedural_id(tier, split, attempt % POOL[split]))
        rng = np.random.default_rng([seed, attempt])
        episode = draw_episode(scene, rng, DIFFICULTY[tier], str(len(episodes)))
        if episode is not None:
            episodes.append(episode)
    raise RuntimeError(f"only {len(episodes)} of {count} episodes of {tier} {split} found")


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Draw PointGoal episodes in procedural scenes.")
    parser.add_argument("--tier", choices=TIERS, default="room")
    parser.add_argument("--split", choices=sorted(POOL), default="val")
    parser.add_argument("--episodes", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None, help="default: the packaged file")
    options = parser.parse_args(arguments)
    name = f"{options.tier}-{options.split}.json.gz"
    output = options.output or Path(__file__).parent / "data" / name
    episodes = generate(options.tier, options.split, options.episodes, options.seed)
    save_episodes(output, episodes)
    print(f"{len(episodes)} episodes in {output}")


if __name__ == "__main__":
    main()
