"""Atari 2600 games of the Arcade Learning Environment, by the protocol of Machado et al. 2018.

Every emulator frame the last action sticks with probability 0.25, an agent step repeats its action
for 4 frames, the episode ends when the game does, and lives are not told apart (Machado et al.,
Revisiting the Arcade Learning Environment, JAIR 2018). Pictures as DreamerV2's released code makes
them: the maximum over the last two frames, gray, 64x64. `pip install 'dreamer-nav[atari]'` brings
the games along.
"""

from __future__ import annotations

import difflib
from typing import Any, Dict, List, Optional, Tuple

import gymnasium
import numpy as np
from gymnasium import spaces

from sim_adapters.resize import AreaResize

NOOP = 0

# Of the names in DreamerV2's score tables, the one that is not ALE's.
_OTHER_NAMES = {"james_bond": "jamesbond"}
# For two players only: the emulator ends the whole process when asked to load one.
_TWO_PLAYERS = frozenset(("combat", "joust", "maze_craze", "warlords"))


def games() -> List[str]:
    """Return the names of all games that can be played, such as `ms_pacman`."""
    from ale_py import roms

    return sorted({*roms.get_all_rom_ids(), *_OTHER_NAMES} - _TWO_PLAYERS)


class AtariEnv(gymnasium.Env):
    """One Atari game.

    The observation is {"image": uint8 (image_size, image_size, 1 or 3)}, the reward the change of
    the game's score. `terminated` is the end of the game, `truncated` the time limit. `info` holds
    "score" (sum of the rewards), "frames" (emulator frames played since the no-ops) and "lives".

    Every episode starts from the machine as it is when switched on; what differs between episodes
    are the no-ops and the sticking, both drawn from the environment's own generator, so that a
    seed given to `reset` decides an episode whatever was played before.

    Args:
        game: a name from `games()`.
        action_repeat: emulator frames for each agent step.
        sticky: probability that a frame repeats the action of the frame before it instead.
        noops: an episode begins with 1 to this many frames without action; 0 for none.
        image_size: edge of the picture in pixels.
        grayscale: one channel of luminance, else RGB.
        full_actions: all actions of the joystick (18; 9 in some games), else only those that do
            something in this game.
        life_loss_terminal: terminate also when a life is lost; the next episode is a new game.
        time_limit_frames: emulator frames after which the episode is truncated.

    Raises:
        ValueError: an unknown game, or an argument out of its range.
        ImportError: ale-py is missing.
    """

    metadata: Dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        game: str = "pong",
        *,
        action_repeat: int = 4,
        sticky: float = 0.25,
        noops: int = 30,
        image_size: int = 64,
        grayscale: bool = True,
        full_actions: bool = True,
        life_loss_terminal: bool = False,
        time_limit_frames: int = 108_000,
    ) -> None:
        _check_at_least("action_repeat", action_repeat, 1)
        _check_at_least("noops", noops, 0)
        _check_at_least("image_size", image_size, 1)
        _check_at_least("time_limit_frames", time_limit_frames, action_repeat)
        if not 0.0 <= sticky <= 1.0:
            raise ValueError(f"sticky must be a probability in [0, 1], got {sticky}")
        self._ale = _load(game)
        listed = self._ale.getLegalActionSet if full_actions else self._ale.getMinimalActionSet
        #: ALE's number of each action of the space
        self.actions: List[int] = [int(action.value) for action in listed()]
        self.max_steps = time_limit_frames // action_repeat
        self._action_repeat = action_repeat
        self._sticky = sticky
        self._noops = noops
        self._life_loss_terminal = life_loss_terminal
        # `reset_game` alone leaves traces of what was played in 26 of the games, and loading one
        # takes 0.1 s; this state and `reset_game` together start all of them alike, in 4 ms.
        self._switched_on = self._ale.cloneSystemState()
        height, width = self._ale.getScreenDims()
        channels = 1 if grayscale else 3
        self._fetch = self._ale.getScreenGrayscale if grayscale else self._ale.getScreenRGB
        # ALE fills gray screens (height, width) and colour screens (height, width, 3).
        shape = (height, width) if grayscale else (height, width, 3)
        self._screen = np.zeros(shape, np.uint8)
        self._screen_before = np.zeros(shape, np.uint8)
        self._resize = AreaResize((height, width, channels), image_size)
        box = spaces.Box(0, 255, (image_size, image_size, channels), np.uint8)
        self.observation_space = spaces.Dict({"image": box})
        self.action_space = spaces.Discrete(len(self.actions))
        self._held = NOOP
        self._lives = 0
        self._steps = 0
        self._frames = 0
        self._score = 0.0

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Switch the machine on and let a drawn number of frames pass."""
        super().reset(seed=seed)
        self._ale.restoreSystemState(self._switched_on)
        self._ale.reset_game()
        # From 1, as Gymnasium's and so the original's preprocessing draws them.
        for _ in range(int(self.np_random.integers(1, self._noops + 1)) if self._noops else 0):
            self._ale.act(NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._held = NOOP
        self._lives = self._ale.lives()
        self._steps = 0
        self._frames = 0
        self._score = 0.0
        self._fetch(self._screen)
        return self._observe(), self._info()

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Hold the action for `action_repeat` frames, or until the game ends."""
        if not self.action_space.contains(action):
            raise ValueError(f"the action must be in {self.action_space}, got {action!r}")
        reward, terminated = self._play(self.actions[action])
        self._steps += 1
        self._score += reward
        truncated = not terminated and self._steps >= self.max_steps
        return self._observe(), reward, terminated, truncated, self._info()

    def _play(self, action: int) -> Tuple[float, bool]:
        """Emulate one agent step and leave its picture in `_screen`."""
        ale = self._ale
        reward = 0.0
        last = self._action_repeat - 1
        # ALE's own rule and order; its generator could only be seeded by loading the game again.
        changes = (self.np_random.random(self._action_repeat) >= self._sticky).tolist()
        for frame, change in enumerate(changes):
            if change:
                self._held = action
            reward += ale.act(self._held)
            self._frames += 1
            ended = ale.game_over() or (self._life_loss_terminal and self._has_lost_a_life())
            if ended:
                break
            if frame == last - 1:
                self._fetch(self._screen_before)
        self._lives = ale.lives()
        self._fetch(self._screen)
        if frame == last > 0:  # a game that ends within the repeats shows its last frame alone
            np.maximum(self._screen, self._screen_before, out=self._screen)
        return reward, ended

    def _has_lost_a_life(self) -> bool:
        return bool(self._ale.lives() < self._lives)

    def _observe(self) -> Dict[str, np.ndarray]:
        height, width = self._screen.shape[:2]
        return {"image": self._resize(self._screen.reshape(height, width, -1))}

    def _info(self) -> Dict[str, Any]:
        return {"score": self._score, "frames": self._frames, "lives": self._lives}


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _load(game: str) -> Any:
    """Load the game into an emulator of its own."""
    from ale_py import ALEInterface, LoggerMode, roms

    known = games()
    if game not in known:
        close = difflib.get_close_matches(game, known, n=3)
        words = " or ".join(map(repr, close))
        hint = f"Did you mean {words}?" if close else f"Games: {', '.join(known)}"
        raise ValueError(f"no game is called {game!r}. {hint}")
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)  # `AtariEnv._play` does it
    ale.loadROM(str(roms.get_rom_path(_OTHER_NAMES.get(game, game))))
    return ale
