"""A room of our own for habitat-sim, and episodes that habitat-lab generates in it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tests.habitat.glb import write_glb

GPU = os.environ.get("HABITAT_GPU", "-1")  # software rendering
# A room of 8 by 6 metres with a wall across that leaves a way on one side, and two pieces of furniture.
BOXES = [
    ((-0.1, -0.1, -0.1), (8.1, 6.1, 0.0)),
    ((-0.1, -0.1, 0.0), (8.1, 0.0, 2.5)),
    ((-0.1, 6.0, 0.0), (8.1, 6.1, 2.5)),
    ((-0.1, 0.0, 0.0), (0.0, 6.0, 2.5)),
    ((8.0, 0.0, 0.0), (8.1, 6.0, 2.5)),
    ((3.9, 0.0, 0.0), (4.1, 4.2, 2.5)),
    ((1.5, 2.0, 0.0), (2.5, 2.8, 0.8)),
    ((5.5, 1.0, 0.0), (6.3, 3.0, 0.9)),
]


def write_made_scene(folder: Path) -> None:
    """Write `scene.glb` and 20 episodes a split: `train/train.json.gz`, `val/val.json.gz`."""
    from habitat.config.default import get_config
    from habitat.datasets.pointnav.pointnav_generator import generate_pointnav_episode
    from habitat.sims import make_sim

    from sim_adapters.habitat.episodes import _write

    write_glb(folder / "scene.glb", BOXES)
    words = [f"habitat.simulator.scene={folder}/scene.glb", use_gpu()]
    config = get_config("benchmark/nav/pointnav/pointnav_base.yaml", words).habitat.simulator
    sim = make_sim(config.type, config=config)
    for seed, split in enumerate(("val", "train")):
        sim.seed(seed)
        np.random.seed(seed)  # habitat-lab's generator draws from the global state
        episodes = list(generate_pointnav_episode(sim, 20, is_gen_shortest_path=False))
        for episode in episodes:
            episode.scene_id = "scene.glb"
        _write(folder / split / f"{split}.json.gz", episodes)
    sim.pathfinder.save_nav_mesh(str(folder / "scene.navmesh"))  # or every start computes it again
    sim.close()


def use_gpu() -> str:
    """The override that names the GPU."""
    return f"habitat.simulator.habitat_sim_v0.gpu_device_id={GPU}"


def overrides(folder: Path) -> list[str]:
    """habitat-lab's overrides for what `write_made_scene` wrote."""
    return [
        f"habitat.dataset.data_path='{folder}/{{split}}/{{split}}.json.gz'",
        f"habitat.dataset.scenes_dir={folder}",
        use_gpu(),
    ]
