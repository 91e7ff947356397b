"""The episodes that we write, and habitat-lab reads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from habitat.config.default import get_config
from habitat.datasets import make_dataset

from sim_adapters.episodes import load_episodes
from sim_adapters.habitat import episodes as writer


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        writer.write_episodes(tmp_path / name, "val", ["room-val-00000"], 3, near_per_scene=2)
    files = [sorted((tmp_path / name).rglob("*.json.gz")) for name in ("a", "b")]
    assert [f.name for f in files[0]] == ["room-val-00000.json.gz", "val.json.gz"]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_habitat_and_we_read_the_same_episodes(episodes: Path) -> None:
    config = get_config(
        "benchmark/nav/pointnav/pointnav_gibson.yaml",
        [
            f"habitat.dataset.data_path='{episodes}/{{split}}/{{split}}.json.gz'",
            f"habitat.dataset.scenes_dir={episodes}",
        ],
    ).habitat.dataset
    theirs = make_dataset(config.type, config=config).episodes
    ours = load_episodes(episodes / "train")
    assert [e.episode_id for e in theirs] == [e.episode_id for e in ours]
    assert len({e.episode_id for e in ours}) == len(ours) == 10
    for a, b in zip(theirs, ours, strict=True):
        assert a.info["geodesic_distance"] == b.geodesic_distance
        assert Path(a.scene_id).name == b.scene_id
    near = [e for e in ours if e.geodesic_distance <= 0.5]
    assert len(near) == 4
    assert min(e.geodesic_distance for e in near) > 0.0
    assert all(1.0 <= e.geodesic_distance <= 30.0 for e in ours if e not in near)


def test_the_command_writes_a_split_and_says_where(tmp_path: Path, capsys: Any) -> None:
    words = [str(tmp_path), "--tier", "room", "--split", "val", "--scenes", "2", "--episodes", "2"]
    assert writer.main(words) == 0
    assert f"4 episodes in 2 scenes: {tmp_path}/val" in capsys.readouterr().out
    main = json.loads(gzip.decompress((tmp_path / "val" / "val.json.gz").read_bytes()))
    assert main == {"episodes": []}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenes", "100000"], "split 'train' has scenes 0 to 1999, got 2000"),
        (["--scene", "/nowhere/Rs"], "/nowhere/Rs"),
    ],
)
def test_a_mistake_costs_one_line(
    tmp_path: Path, capsys: Any, words: list[str], message: str
) -> None:
    assert writer.main([str(tmp_path), *words]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert message in line
