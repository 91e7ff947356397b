"""The process behind one environment of `vector.VectorEnv`: `python worker.py FD`.

It runs under any Python from 3.8 with numpy and gymnasium; nothing of ours has to be installed
there. Messages have the socket FD to themselves: simulators print, also from C, so stdout and
stderr are the parent's log.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import os
import platform
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List

CLOSE_GRACE_S = 2.0


def make_env(name: str, kwargs: Dict[str, Any]) -> Any:
    """The environment `name`: an adapter of the registry, or any callable as "module:callable"."""
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        factory: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
        return factory(**kwargs)
    from sim_adapters import registry

    return registry.make(name, **kwargs)


def describe_env(env: Any) -> Dict[str, Any]:
    """What the parent must know of a fresh environment."""
    from sim_adapters import wire

    return {
        "observation_space": wire.describe_space(env.observation_space),
        "action_space": wire.describe_space(env.action_space),
        "render_mode": getattr(env, "render_mode", None),
        "python": platform.python_version(),
    }


def answer(env: Any, request: Dict[str, Any], policies: Dict[str, Any]) -> Dict[str, Any]:
    """The reply to one request; what the environment raises passes through.

    `policies` are the baselines that play here, by name.
    """
    op = request["op"]
    if op == "step":
        observation, reward, terminated, truncated, info = env.step(request["action"])
        return {
            "observation": _as_arrays(observation),
            "reward": float(reward),
            "terminated": bool(terminated),
            "truncated": bool(truncated),
            "info": info,
        }
    if op == "reset":
        observation, info = env.reset(seed=request["seed"], options=request["options"])
        return {"observation": _as_arrays(observation), "info": info}
    if op == "call":
        return {"value": _call(env, request["name"], request["args"], request["kwargs"])}
    if op == "baselines":
        return {"value": list(_baseline_makers(env))}
    if op == "act":
        return {"value": _act(env, request, policies)}
    if op == "close":
        env.close()
        return {}
    raise ValueError(f"Unknown request {op!r}.")


def _as_arrays(observation: Any) -> Any:
    import numpy as np

    if isinstance(observation, dict):
        return {key: _as_arrays(value) for key, value in observation.items()}
    return np.asarray(observation)


def _call(env: Any, name: str, args: List[Any], kwargs: Dict[str, Any]) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"{name!r} is private.")
    find = getattr(env, "get_wrapper_attr", None)
    found = find(name) if find is not None else getattr(env, name)
    return found(*args, **kwargs) if callable(found) else found


def _baseline_makers(env: Any) -> Dict[str, Callable[[Any], Any]]:
    from sim_adapters.nav_baselines import baseline_makers

    return baseline_makers(env)


def _act(env: Any, request: Dict[str, Any], policies: Dict[str, Any]) -> Any:
    """The action of a baseline, which is made anew for every episode."""
    name = request["name"]
    if request["is_first"]:
        policies[name] = _baseline_makers(env)[name](env)
        policies[name].reset()
    return policies[name].act(request["observation"])


def describe_error(err: BaseException) -> Dict[str, Any]:
    """An exception as plain values; `missing` is the module that an import did not find."""
    text = "".join(traceback.format_exception(type(err), err, err.__traceback__))
    missing = err.name if isinstance(err, ModuleNotFoundError) else None
    return {
        "type": type(err).__name__,
        "message": str(err),
        "traceback": text,
        "missing": missing,
        "python": platform.python_version(),
    }


def _serve(wire: Any, channel: Any, env: Any) -> None:
    policies: Dict[str, Any] = {}
    while True:
        request = channel.receive()
        try:
            reply = wire.pack({"ok": answer(env, request, policies)})
        except Exception as err:
            reply = wire.pack({"error": describe_error(err)})
        channel.send_buffers(reply)
        if request["op"] == "close":
            return


def _import_package() -> Any:
    """Imports `sim_adapters` from this file's folder, and returns its `wire`.

    The folder above is not put on sys.path: in an installation it is the parent's site-packages,
    whose numpy was compiled for another Python.
    """
    # First, so that what this interpreter lacks is named before any module of ours is blamed.
    import gymnasium  # noqa: F401
    import numpy  # noqa: F401

    folder = os.path.dirname(os.path.abspath(__file__))
    init = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location(
        "sim_adapters", init, submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["sim_adapters"] = package
    spec.loader.exec_module(package)
    return importlib.import_module("sim_adapters.wire")


def _send_without_numpy(sock: socket.socket, body: Dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    sock.sendall(struct.pack("!II", 2, len(text)) + b"[]" + text)  # as `wire.pack` does it


def _die_with_parent(fd: int, parent_pid: int) -> None:
    """Kills this process group when the parent is gone, also while the simulator hangs."""
    poll = select.poll()
    poll.register(fd, 0)  # only hang-up and error are reported
    while not poll.poll(2000) and os.getppid() == parent_pid:
        pass
    time.sleep(CLOSE_GRACE_S)  # the main thread sees the end of the stream and closes the simulator
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Serves one environment on the socket whose descriptor is the first argument."""
    faulthandler.enable()
    sys.path.pop(0)  # this folder: its modules are `sim_adapters.x`, never top-level
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    watch = threading.Thread(
        target=_die_with_parent, args=(sock.fileno(), os.getppid()), daemon=True
    )
    watch.start()
    try:
        wire = _import_package()
    except Exception as err:
        _send_without_numpy(sock, {"error": describe_error(err)})
        return
    channel = wire.Channel(sock)
    try:
        config = channel.receive()
        sys.path[:] = config["sys_path"] or sys.path + config["extra_path"]
        try:
            env = make_env(config["name"], config["kwargs"])
            channel.send({"ok": describe_env(env)})
        except Exception as err:
            channel.send({"error": describe_error(err)})
            return
        try:
            _serve(wire, channel, env)
        except (EOFError, ConnectionError):
            env.close()
            os.killpg(0, signal.SIGKILL)  # whatever the simulator started ends with it
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    main()
