from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium.utils import seeding

import sim_adapters
from sim_adapters.atari import AtariEnv, games
from sim_adapters.check import check_env
from tests.sim_adapters.test_resize import assert_rounded, exact_area_means

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ale_py") is None,
    reason="ale-py is not installed: pip install 'dreamer-nav[atari]'",
)

# The 55 games of DreamerV2's score tables and the two that complete the Atari-57.
_NAMES = """
alien amidar assault asterix asteroids atlantis bank_heist battle_zone beam_rider berzerk bowling
boxing breakout centipede chopper_command crazy_climber demon_attack double_dunk enduro
fishing_derby freeway frostbite gopher gravitar hero ice_hockey james_bond kangaroo krull
kung_fu_master montezuma_revenge ms_pacman name_this_game phoenix pitfall pong private_eye qbert
riverraid road_runner robotank seaquest skiing solaris space_invaders star_gunner tennis time_pilot
tutankham up_n_down venture video_pinball wizard_of_wor yars_revenge zaxxon defender surround
"""
ATARI_57 = _NAMES.split()
NOOP, FIRE, UP, RIGHT, LEFT = range(5)


def record(env: AtariEnv, ends_at: int = 0) -> Any:
    """Put a stand-in before the emulator that notes the actions and emulates nothing.

    With `ends_at` the game is over after so many actions.
    """
    inner = env._ale

    class Recorder:
        def __init__(self) -> None:
            self.acted: list[int] = []

        def act(self, action: int) -> int:
            self.acted.append(action)
            return 1

        def game_over(self) -> bool:
            return bool(ends_at) and len(self.acted) >= ends_at

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    env._ale = Recorder()
    return env._ale


def raw(game: str) -> Any:
    """The emulator alone, freshly loaded, nothing random."""
    from ale_py import ALEInterface, roms

    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(str(roms.get_rom_path(game)))
    ale.reset_game()
    return ale


def trace(env: AtariEnv, actions: list[int], seed: int) -> list[Any]:
    """Pictures and numbers of an episode."""
    steps: list[Any] = [env.reset(seed=seed)[0]["image"]]
    for action in actions:
        observation, reward, terminated, _, info = env.step(action)
        steps += [observation["image"], reward, info["lives"]]
        if terminated:
            break
    return steps


def same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def drawn(num: int, choices: int = 18) -> list[int]:
    actions: list[int] = np.random.default_rng(3).integers(choices, size=num).tolist()
    return actions


# -- the contract --------------------------------------------------------------------------------


def test_the_game_keeps_the_contract() -> None:
    check_env(lambda: AtariEnv("pong", time_limit_frames=160), steps=50)


def test_the_game_keeps_the_contract_with_every_option_changed() -> None:
    check_env(
        lambda: AtariEnv(
            "breakout",
            action_repeat=2,
            sticky=0.0,
            noops=0,
            image_size=80,
            grayscale=False,
            full_actions=False,
            life_loss_terminal=True,
            time_limit_frames=50,
        ),
        steps=40,
    )


def test_it_is_registered() -> None:
    env = sim_adapters.make("atari", game="pong")
    assert isinstance(env, AtariEnv)
    assert env.observation_space["image"].shape == (64, 64, 1)  # type: ignore[index]
    assert "atari" in {row.name for row in sim_adapters.available() if row.installed}


# -- pictures and rewards against the emulator alone ---------------------------------------------


def by_hand(game: str, seed: int, actions: list[int], sticky: float, noops: int) -> Any:
    """Screens (4, 210, 160) and reward of each step, from the emulator and the rules alone."""
    ale = raw(game)
    rng, _ = seeding.np_random(seed)
    for _ in range(int(rng.integers(1, noops + 1)) if noops else 0):
        ale.act(NOOP)
    held = NOOP
    for action in actions:
        screens, reward = [], 0
        for draw in rng.random(4):
            held = held if draw < sticky else action
            reward += ale.act(held)
            screens.append(ale.getScreenGrayscale())
        yield np.stack(screens), reward


@pytest.mark.parametrize(("sticky", "noops"), [(0.0, 0), (0.25, 30)])
def test_pictures_are_the_maximum_of_exactly_the_last_two_frames(sticky: float, noops: int) -> None:
    env = AtariEnv("space_invaders", sticky=sticky, noops=noops)
    env.reset(seed=7)
    actions = drawn(60)
    told_apart = {"last": 0, "last three": 0}
    for action, (screens, reward) in zip(
        actions, by_hand("space_invaders", 7, actions, sticky, noops), strict=True
    ):
        observation, got, *_ = env.step(action)
        pooled = screens[2:].max(0)
        assert_rounded(observation["image"], exact_area_means(pooled[..., None], 64))
        assert got == reward
        told_apart["last"] += not np.array_equal(pooled, screens[3])
        told_apart["last three"] += not np.array_equal(pooled, screens[1:].max(0))
    assert min(told_apart.values()) > 10, "the frames of this episode do not tell"


def test_the_first_picture_is_the_screen_after_the_no_ops() -> None:
    env = AtariEnv("ms_pacman", noops=0)
    first = raw("ms_pacman").getScreenGrayscale()
    assert_rounded(env.reset()[0]["image"], exact_area_means(first[..., None], 64))
    env.step(UP)
    assert_rounded(env.reset()[0]["image"], exact_area_means(first[..., None], 64))


def test_colours_are_pooled_and_resized_each() -> None:
    env = AtariEnv("pong", sticky=0.0, noops=0, grayscale=False, image_size=80)
    env.reset(seed=0)
    ale = raw("pong")
    screens = []
    for _ in range(20):
        observation = env.step(FIRE)[0]
        for _ in range(4):
            ale.act(FIRE)
            screens.append(ale.getScreenRGB())
    assert observation["image"].shape == (80, 80, 3)
    pooled = np.stack(screens[-2:]).max(0)
    assert_rounded(observation["image"], exact_area_means(pooled, 80))


def test_one_frame_a_step_is_shown_as_it_is() -> None:
    env = AtariEnv("space_invaders", action_repeat=1, sticky=0.0, noops=0)
    env.reset()
    ale = raw("space_invaders")
    for action in drawn(30):
        observation, *_ = env.step(action)
        ale.act(action)
        exact = exact_area_means(ale.getScreenGrayscale()[..., None], 64)
        assert_rounded(observation["image"], exact)


def test_a_picture_handed_out_does_not_change_later() -> None:
    env = AtariEnv("pong")
    before = env.reset(seed=0)[0]["image"]
    copy = before.copy()
    for action in drawn(30):
        env.step(action)
    assert np.array_equal(before, copy)


def test_rewards_are_raw_and_add_up_to_the_score() -> None:
    env = AtariEnv("ms_pacman")
    env.reset(seed=0)
    rewards, lives = [], []
    for action in drawn(300):
        _, reward, _, _, info = env.step(action)
        rewards.append(reward)
        lives.append(info["lives"])
        assert info["score"] == sum(rewards)
    assert max(rewards) >= 10.0
    assert env.reset(seed=0)[1] == {"score": 0.0, "frames": 0, "lives": 3}
    assert lives[0] == 3


# -- sticky actions and no-ops -------------------------------------------------------------------


def test_frames_repeat_the_one_before_with_the_sticky_probability() -> None:
    env = AtariEnv("pong")
    env.reset(seed=0)
    emulator = record(env)
    asked = [RIGHT if step % 2 else LEFT for step in range(6000)]
    for action in asked:
        env.step(action)
    before = [NOOP, *emulator.acted[:-1]]
    frames = list(zip(before, emulator.acted, np.repeat(asked, 4).tolist(), strict=True))
    assert all(now in (old, wanted) for old, now, wanted in frames)
    changes = [now == old for old, now, wanted in frames if old != wanted]
    share, deviation = np.mean(changes), np.sqrt(0.25 * 0.75 / len(changes))
    assert abs(share - 0.25) < 4 * deviation, (share, deviation)
    assert deviation < 0.006


@pytest.mark.parametrize(("sticky", "acted"), [(0.0, RIGHT), (1.0, NOOP)])
def test_the_extremes_of_stickiness(sticky: float, acted: int) -> None:
    env = AtariEnv("pong", sticky=sticky)
    env.reset(seed=0)
    emulator = record(env)
    for _ in range(50):
        env.step(RIGHT)
    assert emulator.acted == [acted] * 200


def test_an_episode_does_not_inherit_the_action_held_at_the_end_of_the_last() -> None:
    env = AtariEnv("pong", sticky=1.0, noops=0)
    env.reset(seed=0)
    env._held = RIGHT
    env.reset(seed=0)
    emulator = record(env)
    env.step(LEFT)
    assert emulator.acted == [NOOP] * 4


def test_an_episode_begins_with_one_to_thirty_frames_without_action() -> None:
    env = AtariEnv("pong")
    emulator = record(env)
    counts = []
    for seed in range(300):
        emulator.acted.clear()
        assert env.reset(seed=seed)[1]["frames"] == 0
        assert set(emulator.acted) == {NOOP}
        counts.append(len(emulator.acted))
    assert set(counts) == set(range(1, 31))


def test_no_ops_can_be_turned_off() -> None:
    env = AtariEnv("pong", noops=0)
    emulator = record(env)
    env.reset(seed=0)
    assert emulator.acted == []


# -- the ends of an episode ----------------------------------------------------------------------


def test_the_time_limit_is_counted_in_frames_and_truncates() -> None:
    env = AtariEnv("pong", time_limit_frames=42)
    env.reset(seed=0)
    ends = [env.step(NOOP)[2:] for _ in range(10)]
    assert [end[:2] for end in ends] == [(False, False)] * 9 + [(False, True)]
    assert [end[2]["frames"] for end in ends] == list(range(4, 44, 4))
    env.reset()
    assert env.step(NOOP)[2:4] == (False, False)
    assert AtariEnv("pong").max_steps == 27_000


def test_a_game_that_ends_at_the_time_limit_is_terminated_only() -> None:
    env = AtariEnv("pong", time_limit_frames=40)
    env.reset(seed=0)
    record(env, ends_at=40)
    ends = [env.step(NOOP)[2:4] for _ in range(10)]
    assert ends == [(False, False)] * 9 + [(True, False)]


@pytest.mark.parametrize("ends_at", [37, 38, 39])
def test_nothing_is_emulated_after_the_game_is_over(ends_at: int) -> None:
    env = AtariEnv("pong", sticky=0.0)
    env.reset(seed=0)
    emulator = record(env, ends_at)
    for _ in range(9):
        env.step(NOOP)
    _, reward, terminated, _, info = env.step(NOOP)
    assert terminated
    assert len(emulator.acted) == info["frames"] == ends_at
    assert reward == ends_at - 36


def test_a_game_that_ends_within_the_repeats_shows_its_last_frame_alone() -> None:
    env = AtariEnv("space_invaders", sticky=0.0, noops=0)
    env.reset()
    for action in drawn(30):
        env.step(action)
    env._screen_before[:] = 255
    emulator = env._ale
    record(env, ends_at=3)
    assert env.step(NOOP)[2]
    exact = exact_area_means(emulator.getScreenGrayscale()[..., None], 64)
    assert_rounded(env._observe()["image"], exact)


def lose_a_life(env: AtariEnv) -> tuple[bool, int]:
    """Serve in Breakout and stand still; `terminated` and lives of the step that loses the ball."""
    env.reset(seed=0)
    for _ in range(200):
        _, _, terminated, _, info = env.step(FIRE)
        if terminated or info["lives"] < 5:
            return terminated, info["lives"]
    raise AssertionError("no life was lost in 200 steps")


def test_a_lost_life_ends_the_episode_only_on_request() -> None:
    assert lose_a_life(AtariEnv("breakout")) == (False, 4)
    assert lose_a_life(AtariEnv("breakout", life_loss_terminal=True)) == (True, 4)


# -- actions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("game", "names"),
    [
        ("pong", ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]),
        ("freeway", ["NOOP", "UP", "DOWN"]),
    ],
)
def test_the_minimal_action_set_holds_what_the_game_reacts_to(game: str, names: list[str]) -> None:
    from ale_py import Action

    env = AtariEnv(game, full_actions=False, sticky=0.0)
    env.reset(seed=0)
    assert [Action(action).name for action in env.actions] == names
    assert env.action_space.n == len(names)  # type: ignore[attr-defined]
    emulator = record(env)
    for action in range(len(names)):
        env.step(action)
    assert emulator.acted[::4] == env.actions


def test_the_full_action_set_is_the_default() -> None:
    env = AtariEnv("freeway", sticky=0.0)
    env.reset(seed=0)
    assert env.action_space.n == 18  # type: ignore[attr-defined]
    emulator = record(env)
    env.step(np.int64(17))
    assert emulator.acted == [17] * 4


@pytest.mark.parametrize("action", [18, -1])
def test_an_action_outside_the_space_is_refused(action: int) -> None:
    env = AtariEnv("pong")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"the action must be in Discrete\(18\)"):
        env.step(action)


# -- seeds ---------------------------------------------------------------------------------------

# After other play `reset_game` alone leaves these in another state, and Q*bert a saved state alone.
SENSITIVE = ("freeway", "fishing_derby", "qbert", "assault")


@pytest.mark.parametrize("game", SENSITIVE)
def test_a_seed_gives_the_same_episode_whatever_was_played_before(game: str) -> None:
    env = AtariEnv(game)
    actions = drawn(60)
    first = trace(env, actions, seed=5)
    for other in (1, 2):
        trace(env, drawn(150)[::-1], seed=other)
    assert same(first, trace(env, actions, seed=5))
    assert same(first, trace(AtariEnv(game), actions, seed=5))


def test_different_seeds_give_different_episodes() -> None:
    env = AtariEnv("pong", noops=0)
    by_sticking = [trace(env, drawn(100), seed) for seed in (1, 2)]
    assert not same(*by_sticking)
    env = AtariEnv("freeway", sticky=0.0)
    by_no_ops = [trace(env, drawn(20), seed) for seed in (1, 2)]
    assert not same(*by_no_ops)


def test_a_reset_without_a_seed_goes_on_drawing() -> None:
    env = AtariEnv("pong")
    emulator = record(env)
    counts = []
    env.reset(seed=0)
    for _ in range(5):
        emulator.acted.clear()
        env.reset()
        counts.append(len(emulator.acted))
    assert len(set(counts)) > 1


# -- games ---------------------------------------------------------------------------------------


def test_the_games_of_the_benchmark_are_there_by_their_short_names() -> None:
    assert len(set(ATARI_57)) == 57
    assert set(ATARI_57) <= set(games())
    assert games() == sorted(games())


def test_games_that_the_emulator_cannot_load_are_not_offered() -> None:
    assert not {"combat", "joust", "maze_craze", "warlords"} & set(games())


@pytest.mark.slow
@pytest.mark.parametrize("game", ATARI_57)
def test_every_game_of_the_benchmark_plays(game: str) -> None:
    env = AtariEnv(game)
    observation, _ = env.reset(seed=0)
    pictures = {observation["image"].tobytes()}
    for action in drawn(100, int(env.action_space.n)):  # type: ignore[attr-defined]
        observation, *_ = env.step(action)
        assert env.observation_space.contains(observation)
        pictures.add(observation["image"].tobytes())
    assert len(pictures) > 5


def test_james_bond_goes_by_both_names() -> None:
    env = AtariEnv("james_bond", noops=0)
    other = AtariEnv("jamesbond", noops=0)
    assert np.array_equal(env.reset()[0]["image"], other.reset()[0]["image"])


def test_an_unknown_game_is_answered_with_the_nearest_or_the_list() -> None:
    with pytest.raises(
        ValueError, match=r"no game is called 'mspacman'\. Did you mean 'ms_pacman'"
    ):
        AtariEnv("mspacman")
    with pytest.raises(ValueError, match=r"no game is called 'xxxx'\. Games: .*pong.*zaxxon"):
        AtariEnv("xxxx")


BAD: list[tuple[Callable[[], AtariEnv], str]] = [
    (lambda: AtariEnv(action_repeat=0), "action_repeat must be at least 1, got 0"),
    (lambda: AtariEnv(noops=-1), "noops must be at least 0, got -1"),
    (lambda: AtariEnv(sticky=25), r"sticky must be a probability in \[0, 1\], got 25"),
    (lambda: AtariEnv(image_size=0), "image_size must be at least 1, got 0"),
    (lambda: AtariEnv(time_limit_frames=3), "time_limit_frames must be at least 4, got 3"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_an_impossible_option_is_refused(build: Callable[[], AtariEnv], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
