"""One environment inside this process, for debugging the vector without processes."""

from __future__ import annotations

import sys
from typing import Any, Dict

from sim_adapters import wire, worker
from sim_adapters.remote import EnvSpec, EnvStartError


class LocalEnv:
    """An environment in this process, with `RemoteEnv`'s interface; exceptions pass through."""

    pid = None

    def __init__(self, spec: EnvSpec) -> None:
        if spec.python is not None:
            raise EnvStartError(
                f"{spec.name!r} cannot run under {spec.python} inside this process; "
                "set processes=True, or leave python empty."
            )
        self.spec = spec
        self._env: Any = None
        self._request: Dict[str, Any] = {}
        self._policies: Dict[str, Any] = {}

    def start(self) -> None:
        """Builds the environment."""
        sys.path[:0] = [folder for folder in self.spec.path if folder not in sys.path]
        self._env = worker.make_env(self.spec.name, dict(self.spec.kwargs))

    def wait_ready(self, timeout_s: float) -> Dict[str, Any]:
        """What `worker.describe_env` says of the environment."""
        return worker.describe_env(self._env)

    def send(self, request: Dict[str, Any]) -> None:
        """Keeps the request for `receive`."""
        self._request = wire.to_plain(request)

    def receive(self, timeout_s: float) -> Dict[str, Any]:
        """Does what the request says."""
        answered = worker.answer(self._env, self._request, self._policies)
        reply: Dict[str, Any] = wire.to_plain(answered, "reply")
        return reply

    def ask_to_close(self) -> None:
        """Nothing to ask: `close` does it."""

    def close(self, timeout_s: float) -> None:
        """Closes the environment."""
        if self._env is not None:
            self._env.close()
        self._env = None

    def kill(self) -> None:
        """Nothing to kill."""
