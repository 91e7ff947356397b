"""Our agent, habitat-baselines' PPO and the shortest path on the same episodes.

`python -m dreamer_nav.habitat.compare data/checkpoints/dreamer_bullet/latest.pth --ppo
data/checkpoints/ppo_bullet/latest.pth --json table.json` prints one table: success, SPL and more with 95 % intervals.
On habitat-sim habitat-lab's own shortest-path follower is among the rows; on Bullet-v0 our planner stands for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dreamer_nav.evaluate import Subject, evaluate_policy
from dreamer_nav.habitat.failures import user_errors
from dreamer_nav.habitat.weights import open_agent
from dreamer_nav.rollouts import AgentPolicy
from dreamer_nav.run_choice import check_output

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dreamer_nav.habitat.compare",
        description="Our agent, PPO, shortest path, greedy and random on the same episodes.",
    )
    parser.add_argument(
        "agent", type=Path, help="ckpt.N.pth of trainer_name=dreamer, or a run of dreamer-nav train"
    )
    parser.add_argument("--ppo", type=Path, metavar="FILE", help="ckpt.N.pth of trainer_name=ppo")
    parser.add_argument("--episodes", type=int, metavar="N", help="[all of the split]")
    parser.add_argument("--split", metavar="NAME", help="of the data set [the run's, val]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    parser.add_argument("--device", default="cpu", help="where our agent computes [%(default)s]")
    options = parser.parse_args(arguments)
    with user_errors():
        check_output(options.json)
        others = {}
        if options.ppo is not None:
            from sim_adapters.habitat.importing import import_habitat

            import_habitat()
            from dreamer_nav.habitat.ppo import PPOPolicy

            others["ppo"] = PPOPolicy(options.ppo)
        evaluate_policy(
            _subject(options.agent, options.device),
            others=others,
            episodes=options.episodes,
            env_overrides={"split": options.split} if options.split else None,
            json_path=options.json,
        )
    return 0


def _subject(path: Path, device: str) -> Subject:
    saved = open_agent(path, device)
    sample = saved.config.eval.sample_actions
    return Subject(
        policy=AgentPolicy(saved.agent, sample),
        config=saved.config,
        obs=saved.agent.obs,
        action=saved.agent.action,
        step=saved.step,
        title=f"{path} at step {saved.step:,}",
        origin={"checkpoint": str(path)},
        sample_actions=sample,
    )


if __name__ == "__main__":
    sys.exit(main())
