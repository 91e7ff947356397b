"""Any environment registered with Gymnasium, with the observations and actions our adapters promise.

`make("gymnasium", id="CartPole-v1")`. An environment of your own, registered when its module is
imported, is `id="my_module:MyEnv-v0"`; so nothing has to be written to train on it.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import gymnasium
import numpy as np
from gymnasium import spaces

from sim_adapters.resize import AreaResize

#: between the keys of nested dictionaries
SEPARATOR = "_"


def make_gymnasium(
    id: str,
    *,
    image_size: int = 0,
    max_episode_steps: int = 0,
    ignore: Sequence[str] = (),
    kwargs: Optional[Dict[str, Any]] = None,
) -> gymnasium.Env[Any, Any]:
    """Build a registered environment; see `FlatSpaces` for what becomes of its spaces.

    Args:
        id: a registered id (`CartPole-v1`), or `module:id` to import its module first.
        image_size: edge in pixels that images are resized to; 0 leaves them as they are. The
            agent takes squares of 64 pixels and more, in multiples of 16.
        max_episode_steps: agent steps after which an episode is truncated, in place of the limit
            that the environment is registered with; 0 keeps that one.
        ignore: observations that are left out.
        kwargs: the environment's own keyword arguments.

    Raises:
        ValueError: no such id or module, spaces that cannot be converted, or a wrong option.
    """
    if image_size < 0 or max_episode_steps < 0:
        raise ValueError(
            "image_size and max_episode_steps must be at least 0, got "
            f"{image_size} and {max_episode_steps}"
        )
    limit = {"max_episode_steps": max_episode_steps} if max_episode_steps else {}
    try:
        env = gymnasium.make(id, disable_env_checker=True, **limit, **(kwargs or {}))
    except (gymnasium.error.Error, ModuleNotFoundError, TypeError) as error:
        raise ValueError(
            f"{id!r} cannot be made: {error} (id: a registered id, or module:id to import first the "
            "module that registers it; kwargs: the environment's own arguments)"
        ) from error
    try:
        return FlatSpaces(env, image_size=image_size, ignore=ignore)
    except ValueError:
        env.close()
        raise


class FlatSpaces(gymnasium.Wrapper):
    """Gives flat dictionaries of images and vectors; takes Discrete from 0 or a Box of rank one.

    Observations, single or in (nested) dictionaries, whose keys are then joined by "_":

    - Box uint8 (H, W, C) or (H, W): an image, uint8 (H, W, C); alone it is called "image".
    - Box of rank 3 of floats with finite bounds, such as depth: an image, float32 (H, W, C).
    - any other Box: a vector of all its entries, float32 (D,); alone it is called "vector".
    - Discrete: one-hot, float32 (n,).

    Actions: Discrete counts from 0 whatever it starts at; a bounded Box of floats becomes a vector.
    Rewards, `terminated`, `truncated` and `info` pass through.

    Args:
        env: the environment.
        image_size: edge in pixels that images are resized to; 0 leaves them as they are.
        ignore: observations that are left out, by the names they would have.

    Raises:
        ValueError: a space that none of the above covers, or nothing left to observe.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], *, image_size: int = 0, ignore: Sequence[str] = ()
    ) -> None:
        super().__init__(env)
        self._parts = _parts(env.observation_space, image_size, ignore)
        self.observation_space = spaces.Dict({part.name: part.space for part in self._parts})
        self.action_space, self._to_env = _action(env.action_space)

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(observation), info

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], Any, bool, bool, Dict[str, Any]]:
        """Take an action of the converted space."""
        observation, reward, terminated, truncated, info = self.env.step(self._to_env(action))
        return self._observe(observation), reward, terminated, truncated, info

    def _observe(self, observation: Any) -> Dict[str, np.ndarray]:
        converted = {}
        for part in self._parts:
            value = observation
            for key in part.path:
                value = value[key]
            converted[part.name] = part.convert(value)
        return converted


class _Part(NamedTuple):
    """One entry of the observation: where it is found and what it becomes."""

    name: str
    path: Tuple[str, ...]
    space: spaces.Box
    convert: Callable[[Any], np.ndarray]


def _parts(space: spaces.Space[Any], image_size: int, ignore: Sequence[str]) -> List[_Part]:
    parts: List[_Part] = []
    names = set()
    for path, leaf in _leaves(space, ()):
        name = SEPARATOR.join(path) or ("image" if _is_image(leaf) else "vector")
        if name in names:
            raise ValueError(
                f"two observations would be called {name!r}; rename one in a wrapper of your own"
            )
        names.add(name)
        if name not in ignore:
            parts.append(_Part(name, path, *_convert(name, leaf, image_size)))
    unknown = [name for name in ignore if name not in names]
    if unknown or not parts:
        what = f"ignore names {unknown[0]!r}" if unknown else "nothing is left to observe"
        raise ValueError(f"{what}; the observations are {', '.join(sorted(names)) or 'none'}")
    return parts


def _leaves(
    space: spaces.Space[Any], path: Tuple[str, ...]
) -> List[Tuple[Tuple[str, ...], spaces.Space[Any]]]:
    if not isinstance(space, spaces.Dict):
        return [(path, space)]
    return [leaf for key, sub in space.spaces.items() for leaf in _leaves(sub, (*path, str(key)))]


def _is_image(space: spaces.Space[Any]) -> bool:
    if not isinstance(space, spaces.Box):
        return False
    if space.dtype == np.uint8:
        return len(space.shape) in (2, 3)
    is_float = np.issubdtype(space.dtype, np.floating)
    return len(space.shape) == 3 and is_float and _is_bounded(space)


def _is_bounded(space: spaces.Box) -> bool:
    return bool(np.isfinite(space.low).all() and np.isfinite(space.high).all())


def _convert(
    name: str, space: spaces.Space[Any], image_size: int
) -> Tuple[spaces.Box, Callable[[Any], np.ndarray]]:
    """Return what the entry becomes, and the function that makes it so."""
    if isinstance(space, spaces.Discrete):
        return _convert_discrete(space)
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"the observation {name!r} is {space}; allowed are Box, Discrete and Dict of these: "
            f"convert it in a wrapper of your own, or leave it out with ignore: [{name}]"
        )
    return _convert_image(name, space, image_size) if _is_image(space) else _convert_vector(space)


def _convert_discrete(space: spaces.Discrete) -> Tuple[spaces.Box, Callable[[Any], np.ndarray]]:
    one_hot = np.eye(int(space.n), dtype=np.float32)
    start = int(space.start)
    box = spaces.Box(0.0, 1.0, (int(space.n),), np.float32)
    return box, lambda value: one_hot[int(value) - start].copy()


def _convert_vector(space: spaces.Box) -> Tuple[spaces.Box, Callable[[Any], np.ndarray]]:
    size = math.prod(space.shape)
    low, high = (_as_float32(bound).reshape(size) for bound in (space.low, space.high))
    box = spaces.Box(low, high, (size,), np.float32)
    return box, lambda value: np.array(value, np.float32).reshape(size)


def _as_float32(bound: np.ndarray) -> np.ndarray:
    # A bound past float32's range would warn on the cast and mean "no bound" anyway.
    with np.errstate(over="ignore"):
        return np.asarray(bound).astype(np.float32)


def _convert_image(
    name: str, space: spaces.Box, image_size: int
) -> Tuple[spaces.Box, Callable[[Any], np.ndarray]]:
    shape = space.shape if len(space.shape) == 3 else (*space.shape, 1)
    if shape[0] <= 4 < min(shape[1:]):
        raise ValueError(
            f"the image {name!r} has shape {space.shape}, channels first; allowed are (H, W, C) "
            "and (H, W): move its channels to the end in a wrapper of your own"
        )
    dtype: Any = np.uint8 if space.dtype == np.uint8 else np.float32
    new = (image_size, image_size, shape[2]) if image_size else shape
    box = spaces.Box(dtype(space.low.min()), dtype(space.high.max()), new, dtype)
    if new == shape:
        return box, lambda value: np.array(value, dtype).reshape(shape)
    resize = AreaResize((shape[0], shape[1], shape[2]), image_size)
    return box, lambda value: resize(np.asarray(value, dtype).reshape(shape))


def _action(space: spaces.Space[Any]) -> Tuple[spaces.Space[Any], Callable[[Any], Any]]:
    """Return the converted action space, and the function from its actions to the environment's."""
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return spaces.Discrete(int(space.n)), lambda action: int(action) + start
    is_float = np.issubdtype(space.dtype, np.floating)
    if isinstance(space, spaces.Box) and is_float and _is_bounded(space):
        return _box_action(space)
    raise ValueError(
        f"the action space is {space}; allowed are Discrete and a Box of floats with finite "
        "bounds: convert it in a wrapper of your own (MultiDiscrete to the Discrete of all "
        "combinations, unbounded actions clipped)"
    )


def _box_action(space: spaces.Box) -> Tuple[spaces.Box, Callable[[Any], np.ndarray]]:
    size = math.prod(space.shape)
    low, high = (bound.reshape(size).astype(np.float32) for bound in (space.low, space.high))

    def to_env(action: Any) -> np.ndarray:
        exact = np.asarray(action, space.dtype).reshape(space.shape)
        return np.clip(exact, space.low, space.high)  # float32 bounds may lie a little outside

    return spaces.Box(low, high, (size,), np.float32), to_env
