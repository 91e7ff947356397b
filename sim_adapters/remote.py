"""The parent's end of one worker: start it, talk to it, notice its death, leave nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from sim_adapters import wire

LOG_LIMIT_BYTES = 1 << 20
LOG_KEEP_BYTES = 1 << 14
EXIT_GRACE_S = 2.0
_WORKER_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
_OF_THIS_PYTHON = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True)
class EnvSpec:
    """One environment of a vector.

    Attributes:
        name: an adapter of the registry ("bullet"), or any callable as "module:callable".
        kwargs: its keyword arguments, plain values or numpy arrays.
        python: the interpreter that runs it: a path, a command, or a conda environment's name.
            None: this one.
        path: folders added to that interpreter's module search path.
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    python: Optional[str] = None
    path: Sequence[str] = ()


class EnvStartError(RuntimeError):
    """An environment could not be built: one line; `details` has the traceback or the log."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class WorkerError(RuntimeError):
    """A worker died, hung or its environment raised; `details`: traceback or last words."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(f"{reason}\n{details}".rstrip())
        self.reason = reason
        self.details = details


class RemoteError(WorkerError):
    """The environment raised an exception; its process is alive."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['type']}: {error['message']}", str(error["traceback"]).rstrip())
        self.missing: Optional[str] = error["missing"]
        self.python: str = error["python"]


def find_interpreter(python: Optional[str]) -> str:
    """The absolute path of an interpreter given as a path, a command, or a conda environment's
    name.

    Raises:
        EnvStartError: there is none; the message says where it was looked for.
    """
    if python is None:
        return sys.executable
    candidate = os.path.expanduser(python)
    found = shutil.which(candidate)
    if found is not None:
        return os.path.abspath(found)
    if os.sep in candidate:
        what = "is a folder" if os.path.isdir(candidate) else "cannot be run"
        what = what if os.path.exists(candidate) else "does not exist"
        raise EnvStartError(
            f"The interpreter {python!r} {what}. "
            "Give the path of a Python, for example ~/miniconda3/envs/NAME/bin/python."
        )
    prefixes = _conda_prefixes()
    for prefix in prefixes:
        executable = os.path.join(prefix, "bin", "python")
        if os.path.basename(prefix) == python and os.access(executable, os.X_OK):
            return executable
    known = ", ".join(sorted(os.path.basename(p) for p in prefixes)) or "none found"
    raise EnvStartError(
        f"The interpreter {python!r} is neither a command nor a conda environment "
        f"(conda environments: {known}). Give the path of a Python."
    )


def _conda_prefixes() -> List[str]:
    prefixes: List[str] = []
    with contextlib.suppress(OSError):
        with open(os.path.expanduser("~/.conda/environments.txt"), encoding="utf-8") as listed:
            prefixes += [line.strip() for line in listed if line.strip()]
    conda = os.environ.get("CONDA_EXE")
    if conda:
        folder = os.path.join(os.path.dirname(os.path.dirname(conda)), "envs")
        with contextlib.suppress(OSError):
            prefixes += [os.path.join(folder, name) for name in os.listdir(folder)]
    return prefixes


def _worker_environment(is_this_python: bool) -> Dict[str, str]:
    environment = dict(os.environ)
    if not is_this_python:
        for name in _OF_THIS_PYTHON:
            environment.pop(name, None)
    # One worker is one core's work: the parallelism is between environments.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = "1"
    environment["PYTHONUNBUFFERED"] = "1"  # so that the last words are in the log
    return environment


class RemoteEnv:
    """An environment in a process of its own; `start`, then `send` and `receive` in turn."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._python = find_interpreter(spec.python)
        self._is_this_python = self._python == sys.executable
        self._process: Optional[subprocess.Popen] = None
        self._channel: Optional[wire.Channel] = None
        self._log: Any = None
        self._last_words = ""
        self._sent_at_s = 0.0
        self._is_sending = False
        self._awaits_reply = False
        self._start_error: Optional[WorkerError] = None

    @property
    def pid(self) -> Optional[int]:
        """The worker's process id, None when it is not running."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Starts the process and tells it what to build; `wait_ready` collects the answer."""
        self.kill()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed in `kill`
        # Appending, so that the worker goes on at the new end after the log is cut.
        flags = fcntl.fcntl(self._log, fcntl.F_GETFL)
        fcntl.fcntl(self._log, fcntl.F_SETFL, flags | os.O_APPEND)
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [self._python, _WORKER_FILE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=_worker_environment(self._is_this_python),
            )
        except OSError as err:
            ours.close()
            self.kill()
            raise EnvStartError(
                f"The interpreter {self._python!r} cannot be started: {err.strerror}. "
                "Give the path of a Python."
            ) from err
        finally:
            theirs.close()
        self._channel = wire.Channel(ours)
        config = {
            "name": self.spec.name,
            "kwargs": dict(self.spec.kwargs),
            "sys_path": [*self.spec.path, *sys.path] if self._is_this_python else None,
            "extra_path": list(self.spec.path),
        }
        self._start_error = None
        try:
            self.send(config)
        except WorkerError as err:  # died at once: `wait_ready` reports it
            self._start_error = err

    def wait_ready(self, timeout_s: float) -> Dict[str, Any]:
        """What `worker.describe_env` says of the environment.

        Raises:
            EnvStartError: it was not built; the message is one line that says what to do.
        """
        try:
            if self._start_error is not None:
                raise self._start_error
            return self.receive(timeout_s)
        except RemoteError as err:
            self.kill()
            raise EnvStartError(self._explain(err), err.details) from err
        except WorkerError as err:
            where = f"{self.spec.name!r} under {self._python}: the worker"
            last = err.details.strip().splitlines()
            ending = f"; its last words: {last[-1]}" if last else ""
            raise EnvStartError(
                f"{where} {err.reason} while it was built{ending}", err.details
            ) from err

    def _explain(self, err: RemoteError) -> str:
        where = f"{self.spec.name!r} under {self._python} (Python {err.python})"
        if err.missing is not None:
            package = err.missing.partition(".")[0]
            return (
                f"{where}: the module {err.missing!r} is missing. "
                f"Install it: {self._python} -m pip install {package}"
            )
        return f"{where}: " + " ".join(err.reason.split())

    def send(self, request: Mapping[str, Any], timeout_s: float = 10.0) -> None:
        """Sends one request.

        Raises:
            WorkerError: the worker is gone or does not read.
            TypeError: the request holds more than plain values and arrays.
        """
        if self._channel is None:
            raise WorkerError("is not running", self._last_words)
        if self._is_sending:  # Ctrl-C came in the middle of a frame
            self.kill()
            raise WorkerError("was interrupted while it was sent a request")
        if self._awaits_reply:  # Ctrl-C came before the answer: it belongs to an abandoned request
            with contextlib.suppress(RemoteError):
                self.receive(timeout_s)
        buffers = wire.pack(request)
        self._sent_at_s = time.monotonic()
        self._is_sending = True
        try:
            self._channel.send_buffers(buffers, timeout_s)
        except TimeoutError:
            raise self._hung(timeout_s) from None
        except OSError:
            raise self._gone() from None
        self._awaits_reply, self._is_sending = True, False

    def receive(self, timeout_s: float) -> Dict[str, Any]:
        """The answer to the last request. May be called again when a signal interrupted it.

        Args:
            timeout_s: seconds since the request was sent; an answer that already lies there is
                always taken.

        Raises:
            RemoteError: the environment raised. WorkerError: the process died or hung, and has been
                killed.
        """
        if self._channel is None:
            raise WorkerError("is not running", self._last_words)
        while True:
            left_s = self._sent_at_s + timeout_s - time.monotonic()
            try:
                # In slices, because a worker that prints without end must not fill the disk
                # meanwhile.
                reply = self._channel.receive(min(max(left_s, 0.05), 1.0))
                break
            except TimeoutError:
                self._bound_log()
                if time.monotonic() > self._sent_at_s + timeout_s:
                    raise self._hung(timeout_s) from None
            except EOFError:
                raise self._gone() from None
            except wire.ProtocolError as err:
                self.kill()
                raise WorkerError(f"sent an unreadable message ({err})", self._last_words) from err
        self._awaits_reply = False
        self._bound_log()
        if "error" in reply:
            raise RemoteError(reply["error"])
        return reply["ok"]

    def _hung(self, timeout_s: float) -> WorkerError:
        self.kill()
        return WorkerError(f"gave no answer for {timeout_s:g} s and was killed", self._last_words)

    def _gone(self) -> WorkerError:
        code = self._exit_code()
        self.kill()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return WorkerError(f"was killed by {signal.Signals(-code).name}", self._last_words)
        how = "closed its connection" if code is None else f"exited with code {code}"
        return WorkerError(how, self._last_words)

    def _exit_code(self) -> Optional[int]:
        """How the process ended, without reaping it: its group can still be killed safely."""
        assert self._process is not None
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return None
        deadline = time.monotonic() + EXIT_GRACE_S
        while time.monotonic() < deadline:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            ended = os.waitid(os.P_PID, self._process.pid, options)
            if ended is not None:
                is_exit = ended.si_code == os.CLD_EXITED
                return ended.si_status if is_exit else -ended.si_status
            time.sleep(0.005)
        return None

    def ask_to_close(self) -> None:
        """Tells the simulator to close itself; `close` waits for it."""
        with contextlib.suppress(WorkerError):
            self.send({"op": "close"}, EXIT_GRACE_S)

    def close(self, timeout_s: float) -> None:
        """Ends the process and whatever it started; a closing simulator gets `timeout_s` first."""
        if self._awaits_reply:
            with contextlib.suppress(WorkerError):
                self.receive(timeout_s)
                self._exit_code()
        self.kill()

    def kill(self) -> None:
        """Ends the worker's whole process group, reaps it and closes every descriptor."""
        if self._process is not None:
            # Before reaping: afterwards the number may belong to somebody else's group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._is_sending = self._awaits_reply = False
        if self._log is not None:
            self._last_words = self._tail()
            self._log.close()
            self._log = None

    def _tail(self, size: int = 4000) -> str:
        fd = self._log.fileno()
        end = os.fstat(fd).st_size
        return os.pread(fd, size, max(0, end - size)).decode(errors="replace")

    def _bound_log(self) -> None:
        fd = self._log.fileno()
        size = os.fstat(fd).st_size
        if size > LOG_LIMIT_BYTES:
            kept = os.pread(fd, LOG_KEEP_BYTES, size - LOG_KEEP_BYTES)
            os.ftruncate(fd, 0)
            os.write(fd, b"[...]\n" + kept)
