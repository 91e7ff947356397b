"""Floor plans: reproducible, connected, with passages wide enough, and episodes that fit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from sim_adapters.bullet import generate
from sim_adapters.bullet.furniture import AGAINST_WALL, FREE_STANDING, footprint, place
from sim_adapters.bullet.geodesic import NavGrid, free_cells
from sim_adapters.bullet.layout import DOORWAY_M, PASSAGE_M, build_layout, gap
from sim_adapters.bullet.motion import clearance
from sim_adapters.bullet.sampling import DIFFICULTY, SampledEpisodes, draw_episode, procedural_ids
from sim_adapters.bullet.scene import (
    AGENT_RADIUS_M,
    SceneLibrary,
    procedural_id,
    procedural_scene,
)
from sim_adapters.episodes import Episode, load_episodes

DATA = Path(generate.__file__).parent / "data"
TIERS = ("room", "apartment")


@pytest.mark.parametrize("tier", TIERS)
def test_a_scene_is_a_function_of_its_name_and_differs_from_every_other(tier: str) -> None:
    names = [procedural_id(tier, split, k) for split in ("train", "val") for k in range(4)]
    plans = [build_layout(name) for name in names]
    assert build_layout(names[0]) == plans[0]
    for one, other in itertools.combinations(plans, 2):
        assert one.boxes != other.boxes
        assert one.paints != other.paints
        assert one.light != other.light


@pytest.mark.parametrize("tier", TIERS)
def test_train_and_validation_scenes_are_disjoint(tier: str) -> None:
    train, val = procedural_ids(tier, "train"), procedural_ids(tier, "val")
    assert len(set(train)) == 2000
    assert not set(train) & set(val)
    shipped = {e.scene_id for e in load_episodes(DATA / f"{tier}-val.json.gz")}
    assert shipped <= set(val)
    assert len(shipped) >= 90


def test_rooms_are_of_the_promised_size_and_cut_by_partitions() -> None:
    for k in range(10):
        plan = build_layout(procedural_id("room", "train", k))
        x0, y0, x1, y1 = plan.bounds
        assert 5.0 <= x1 - x0 <= 7.0
        assert 5.0 <= y1 - y0 <= 7.0
        assert sum(box.material == "partition" for box in plan.boxes) in (2, 3)
        assert len(plan.obstacles) >= 4 + 2 + 2


def test_apartments_have_three_to_six_rooms_that_are_all_reachable() -> None:
    counts = set()
    for k in range(10):
        plan = build_layout(procedural_id("apartment", "train", k))
        counts.add(len(plan.rooms))
        free = free_cells(plan.bounds, np.array(plan.obstacles), AGENT_RADIUS_M, 0.05)
        grid = NavGrid(free, plan.bounds, 0.05)
        for room in plan.rooms:
            low, high = grid.index(room[:2]), grid.index(room[2:])
            inside = grid.component[low[0] : high[0] + 1, low[1] : high[1] + 1]
            assert (inside == grid.main_component).any()
    assert counts <= {3, 4, 5, 6}
    assert len(counts) >= 3


@pytest.mark.parametrize("tier", TIERS)
def test_furniture_touches_or_leaves_a_passage(tier: str) -> None:
    for k in range(6):
        plan = build_layout(procedural_id(tier, "train", k))
        walls = {
            (box.low[0], box.low[1], box.high[0], box.high[1])
            for box in plan.boxes
            if box.material.startswith(("wall", "partition"))
        }
        furniture = [o for o in plan.obstacles if o not in walls]
        assert furniture
        for piece, other in itertools.product(furniture, plan.obstacles):
            distance = gap(piece, other)
            assert distance < 1e-5 or distance >= PASSAGE_M
    assert PASSAGE_M >= 0.7
    assert DOORWAY_M == 0.9


@pytest.mark.parametrize("name", sorted({*AGAINST_WALL, *FREE_STANDING}))
def test_a_piece_of_furniture_fills_its_footprint_and_is_seen_by_the_camera(name: str) -> None:
    make = {**AGAINST_WALL, **FREE_STANDING}[name]
    rng = np.random.default_rng(0)
    for quarter in range(4):
        piece = make(rng)
        boxes = place(piece, 2.0, 3.0, quarter)
        low = np.min([box.low for box in boxes], axis=0)
        high = np.max([box.high for box in boxes], axis=0)
        wanted = footprint(piece, 2.0, 3.0, quarter)
        assert (*low[:2], *high[:2]) == pytest.approx(wanted, abs=0.04)
        assert low[2] >= 0.0
        assert 0.4 <= high[2] <= 2.2


def _check(episode: Episode, library: SceneLibrary, tier: str) -> None:
    scene = library(episode.scene_id)
    floor = scene.floors[0]
    for point in (episode.start_position, episode.goal_position):
        assert clearance(np.array(point[:2]), floor.obstacles) >= AGENT_RADIUS_M - 1e-6
    distance = floor.grid.distance(episode.start_position, episode.goal_position)
    assert distance == pytest.approx(episode.geodesic_distance, abs=1e-3)
    assert DIFFICULTY[tier].nearest <= distance <= DIFFICULTY[tier].farthest + 1e-6
    path = floor.grid.path(episode.start_position, episode.goal_position)
    assert len(path) >= 2
    # Pulled taut, the path may be a little shorter than the field says, hardly ever longer.
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    assert 0.97 * distance < length < 1.01 * distance


@pytest.mark.parametrize("tier", TIERS)
def test_validation_episodes_are_valid(tier: str) -> None:
    episodes = load_episodes(DATA / f"{tier}-val.json.gz")
    assert len(episodes) == 100
    assert len({e.episode_id for e in episodes}) == 100
    library = SceneLibrary()
    for episode in episodes[::12]:
        _check(episode, library, tier)


@pytest.mark.slow
@pytest.mark.parametrize("tier", TIERS)
def test_every_validation_episode_is_valid_and_the_file_is_reproducible(
    tier: str, tmp_path: Path
) -> None:
    output = tmp_path / f"{tier}-val.json.gz"
    generate.main(["--tier", tier, "--output", str(output)])
    # Positions pass through sines of other libraries' making: compare values, not bytes.
    for new, old in zip(
        load_episodes(output), load_episodes(DATA / f"{tier}-val.json.gz"), strict=True
    ):
        assert new.scene_id == old.scene_id
        assert new.start_position == pytest.approx(old.start_position)
        assert new.goal_position == pytest.approx(old.goal_position)
        _check(old, SceneLibrary(), tier)


def test_a_sampled_episode_follows_from_the_random_numbers_alone() -> None:
    names = procedural_ids("room", "train")
    first = SampledEpisodes(names, SceneLibrary(), DIFFICULTY["room"])
    other = SampledEpisodes(names, SceneLibrary(), DIFFICULTY["room"])
    other(np.random.default_rng(99))  # another history
    drawn = [first(np.random.default_rng(k)) for k in range(4)]
    assert [other(np.random.default_rng(k)) for k in range(4)] == drawn
    assert len({e.scene_id for e in drawn}) == 4


def test_about_the_wanted_share_of_episodes_is_blocked() -> None:
    scenes = [procedural_scene(procedural_id("room", "train", k)) for k in range(6)]
    rng = np.random.default_rng(0)
    blocked = []
    for scene in scenes:
        for _ in range(12):
            episode = draw_episode(scene, rng, DIFFICULTY["room"])
            assert episode is not None
            ends = np.array(episode.start_position[:2]), np.array(episode.goal_position[:2])
            blocked.append(not scene.floors[0].grid.line_is_free(*ends))
    assert 0.45 < np.mean(blocked) < 0.78


def test_unknown_tiers_splits_and_scenes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'rom'"):
        procedural_ids("rom", "train")
    with pytest.raises(ValueError, match="'test'"):
        procedural_ids("room", "test")
    with pytest.raises(ValueError, match="0 to 199"):
        procedural_id("room", "val", 200)
    with pytest.raises(ValueError, match="castle"):
        build_layout("castle-train-00001")
    with pytest.raises(ValueError, match="no scenes"):
        SampledEpisodes((), SceneLibrary(), DIFFICULTY["room"])


def test_the_library_keeps_only_the_last_scenes() -> None:
    library = SceneLibrary(capacity=2)
    first = library("room-train-00000")
    assert library("room-train-00000") is first
    library("room-train-00001")
    library("room-train-00002")
    assert library("room-train-00000") is not first
