"""`python -m habitat_baselines.run` on real habitat-sim: the stock command line, its own PPO, and one table of both."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.habitat_sim
if importlib.util.find_spec("habitat_sim") is None:
    pytest.skip("habitat-sim is not installed", allow_module_level=True)

from tests.habitat.baselines import Workplace
from tests.habitat.made_scene import overrides

STEPS = 120


@pytest.fixture(scope="module")
def place(made_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("baselines_sim"), overrides=overrides(made_scene))


@pytest.fixture(scope="module")
def trained(place: Workplace) -> Path:
    """The checkpoint folder of a short training with `pointnav/dreamer_pointnav`."""
    steps = f"habitat_baselines.total_num_steps={STEPS}"
    text = place.run("dreamer_pointnav", steps, "habitat_baselines.evaluate=False")
    assert "Simulator Sim-v0, episodes" in text
    return place.checkpoints("dreamer_pointnav")


@pytest.fixture(scope="module")
def ppo(place: Workplace) -> Path:
    """A checkpoint of habitat-baselines' PPO after two updates."""
    return place.train_ppo("habitat.simulator.type=Sim-v0")


def test_the_stock_command_trains_and_goes_on(trained: Path, place: Workplace) -> None:
    steps = [
        torch.load(trained / name, weights_only=True)["extra_state"]["step"]
        for name in ("ckpt.0.pth", "ckpt.1.pth", "latest.pth")
    ]
    assert steps == [STEPS // 2, STEPS, STEPS]
    more = ("habitat_baselines.load_resume_state_config=False", "habitat_baselines.evaluate=False")
    place.run("dreamer_pointnav", f"habitat_baselines.total_num_steps={STEPS + 40}", *more)
    latest = torch.load(trained / "latest.pth", weights_only=True)
    assert STEPS + 40 <= latest["extra_state"]["step"] < STEPS + 42
    rewards = [step for step, _ in place.scalars("dreamer_pointnav")["reward"]]
    assert rewards == sorted(set(rewards))


def test_a_folder_is_evaluated_twice_with_videos(trained: Path, place: Workplace) -> None:
    films = ("habitat_baselines.eval.video_option=[disk]", "habitat_baselines.test_episode_count=2")
    tables = []
    for _ in range(2):
        text = place.run("dreamer_pointnav", "habitat_baselines.evaluate=True", *films)
        tables.append([line for line in text.splitlines() if line.startswith(("SPL", "steps"))])
    assert len(tables[0]) >= 4  # two lines of every checkpoint
    assert tables[0] == tables[1]
    assert list((place.folder / "videos" / "dreamer_pointnav").glob("*.mp4"))


def test_stock_ppo_trains_on_the_same_task(ppo: Path) -> None:
    from dreamer_nav.habitat.ppo import read_checkpoint

    content = read_checkpoint(ppo)
    assert content["extra_state"]["step"] == 64
    assert content["config"].habitat.simulator.type == "Sim-v0"


def test_one_table_has_habitats_follower_too(
    trained: Path, ppo: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dreamer_nav.habitat.compare import main

    monkeypatch.chdir(place.folder)
    file = place.folder / "table.json"
    words = [str(trained / "latest.pth"), "--ppo", str(ppo), "--episodes", "3", "--json", str(file)]
    assert main(words) == 0
    report = json.loads(file.read_text())
    names = ["dreamer", "ppo", "shortest path", "habitat follower", "greedy", "random"]
    assert sorted(report["policies"]) == sorted(names)
    assert report["policies"]["shortest path"]["spl"]["n"] == 3
    played = [[e["episode_id"] for e in v] for v in report["episodes"].values()]
    assert all(ids == played[0] for ids in played)


def test_the_stock_evaluator_runs_our_policy(trained: Path, place: Workplace) -> None:
    # One scene: with more environments than scenes their evaluator makes fewer, but counts on all.
    alone = "habitat_baselines.num_environments=1"
    text = place.evaluate_with_theirs("dreamer_pointnav", trained / "ckpt.1.pth", alone)
    assert "Traceback" not in text
    assert place.scalars("stock")["eval_metrics/success"][0][0] == STEPS


def test_the_agent_plays_through_habitats_benchmark(
    trained: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import habitat

    from dreamer_nav.habitat.agent import DreamerAgent

    monkeypatch.chdir(place.folder)
    file = trained.with_name("dreamer_pointnav.run") / "habitat.yaml"
    metrics = habitat.Benchmark(str(file)).evaluate(
        DreamerAgent(trained / "ckpt.1.pth"), num_episodes=2
    )
    assert 0 <= metrics["spl"] <= 1
    assert metrics["distance_to_goal"] > 0
