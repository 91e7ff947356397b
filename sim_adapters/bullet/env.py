"""PointGoal navigation in PyBullet as a Gymnasium environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from sim_adapters.bullet.sampling import DIFFICULTY, GIBSON, SampledEpisodes, procedural_ids
from sim_adapters.bullet.sensor_noise import DepthNoise
from sim_adapters.bullet.simulator import BulletSimulator
from sim_adapters.nav_actions import ActuationNoise
from sim_adapters.pointgoal import EpisodeSource, FixedEpisodes, PointGoalEnv

DATA = Path(__file__).parent / "data"


class BulletPointGoalEnv(PointGoalEnv):
    """PointGoal in procedural homes or Gibson meshes, rendered in software.

    Arguments:
        tier: "room" (one furnished room) or "apartment" (three to six rooms).
        split: "train" draws episodes in its scenes without end; "val" goes through the 100
            fixed validation episodes of the tier, whose scenes are never drawn in training.
        episodes: a habitat PointNav-v1 file (json.gz) to use instead.
        scene: a single scene to draw episodes in instead: a procedural one such as
            "room-train-00017", or a folder of `scenes_dir` in the Gibson layout.
        scenes_dir: folder that holds Gibson scenes.
        near_share: share of the drawn episodes that begin within 0.5 m of their goal, so that
            stopping there is learned early; fixed episodes are as they are.
        sensors: any of "depth" and "rgb".
        image_size: side of the pictures, pixels, or (height, width).
        hfov_deg: horizontal field of view.
        allow_sliding: glide along obstacles instead of stopping at them.
        depth_noise_m: standard deviation of depth at 1 m, growing with the square of distance.
        depth_dropout: share of depth pixels without a reading.
        forward_noise_m: standard deviation of the distance driven in an action.
        turn_noise_deg: standard deviation of the turn in an action.
        turn_deg: angle of a discrete turn.
        **options: the other options of `PointGoalEnv`.
    """

    def __init__(
        self,
        *,
        tier: str = "room",
        split: str = "train",
        episodes: str = "",
        scene: str = "",
        scenes_dir: str = "",
        near_share: float = 0.0,
        sensors: Sequence[str] = ("depth",),
        image_size: Any = 64,
        hfov_deg: float = 79.0,
        allow_sliding: bool = False,
        depth_noise_m: float = 0.0,
        depth_dropout: float = 0.0,
        forward_noise_m: float = 0.0,
        turn_noise_deg: float = 0.0,
        turn_deg: float = 30.0,
        **options: Any,
    ) -> None:
        procedural_ids(tier, split)  # refuse a wrong name before anything is started
        noisy = depth_noise_m > 0 or depth_dropout > 0
        simulator = BulletSimulator(
            sensors=sensors,
            image_size=image_size,
            hfov_deg=hfov_deg,
            allow_sliding=allow_sliding,
            depth_noise=DepthNoise(depth_noise_m, depth_dropout) if noisy else None,
            scenes_dir=scenes_dir,
        )
        if forward_noise_m > 0 or turn_noise_deg > 0:
            options.setdefault("noise", ActuationNoise(forward_noise_m, turn_noise_deg))
        source = _episode_source(simulator, tier, split, episodes, scene, near_share)
        super().__init__(simulator, source, turn_deg=turn_deg, **options)


def _episode_source(
    simulator: BulletSimulator,
    tier: str,
    split: str,
    episodes: str,
    scene: str,
    near_share: float,
) -> EpisodeSource:
    if not scene and not episodes and split == "train":
        scenes = procedural_ids(tier, split)
        return SampledEpisodes(scenes, simulator.library, DIFFICULTY[tier], near_share)
    if scene:
        wanted = DIFFICULTY.get(scene.split("-")[0], GIBSON)
        return SampledEpisodes((scene,), simulator.library, wanted, near_share)
    from sim_adapters.episodes import load_episodes

    return FixedEpisodes(load_episodes(episodes or DATA / f"{tier}-{split}.json.gz"))
