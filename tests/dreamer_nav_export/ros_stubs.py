"""Stand-ins for the ROS modules that the node imports: enough to wire it and to call its callbacks."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Message(SimpleNamespace):
    """A message: unknown parts come into being when they are used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        part = Message()
        setattr(self, name, part)
        return part


class Result(enum.Enum):
    SUCCESS = "success"
    FAILURE = "failure"


class Publisher:
    """Of a lifecycle node: silent while the node is not active."""

    def __init__(self, topic: str, message_type: type, qos: Any) -> None:
        self.topic, self.message_type, self.qos = topic, message_type, qos
        self.enabled, self.sent = False, []  # type: ignore[var-annotated]

    def publish(self, msg: Any) -> None:
        if self.enabled:
            self.sent.append(msg)


class Now:
    def __init__(self, seconds: float) -> None:
        self.nanoseconds = int(seconds * 1e9)

    def to_msg(self) -> Message:
        return Message(sec=self.nanoseconds // 10**9, nanosec=self.nanoseconds % 10**9)


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda text, **_: self.lines.append((level, text))


class LifecycleNode:
    """Keeps what it is told to make; `now_s` is its clock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.now_s = 100.0
        self.parameters: dict[str, Any] = {}
        self.publishers_by_topic: dict[str, Publisher] = {}
        self.callbacks: dict[str, tuple[Callable[..., Any], Any, Any]] = {}
        self.timers_by_name: dict[str, tuple[float, Any, Any]] = {}
        self.log = Log()

    def declare_parameter(self, name: str, default: Any, descriptor: Any) -> None:
        assert descriptor.description
        self.parameters[name] = default

    def get_parameter(self, name: str) -> Message:
        return Message(value=self.parameters[name])

    def create_publisher(self, kind: type, topic: str, qos: Any) -> Publisher:
        publisher = self.publishers_by_topic[topic] = Publisher(topic, kind, qos)
        publisher.enabled = True
        return publisher

    def create_lifecycle_publisher(self, kind: type, topic: str, qos: Any) -> Publisher:
        publisher = self.publishers_by_topic[topic] = Publisher(topic, kind, qos)
        return publisher

    def create_subscription(
        self, kind: type, topic: str, callback: Callable[..., Any], qos: Any, callback_group: Any
    ) -> str:
        del kind
        self.callbacks[topic] = (callback, qos, callback_group)
        return topic

    def create_service(
        self, kind: type, name: str, callback: Callable[..., Any], callback_group: Any
    ) -> str:
        del kind
        self.callbacks[name] = (callback, None, callback_group)
        return name

    def create_timer(
        self, period: float, callback: Callable[[], None], callback_group: Any, clock: Any = None
    ) -> str:
        name = callback.__name__
        self.timers_by_name[name] = (period, callback_group, clock)
        return name

    def destroy_timer(self, name: str) -> None:
        del self.timers_by_name[name]

    def destroy_subscription(self, topic: str) -> None:
        self.callbacks.pop(topic, None)

    destroy_service = destroy_subscription

    def destroy_publisher(self, publisher: Publisher) -> None:
        self.publishers_by_topic.pop(publisher.topic, None)

    def get_clock(self) -> Message:
        return Message(now=lambda: Now(self.now_s))

    def get_logger(self) -> Log:
        return self.log

    def _switch(self, enabled: bool) -> Result:
        for publisher in self.publishers_by_topic.values():
            publisher.enabled = enabled or publisher.topic == "/diagnostics"
        return Result.SUCCESS

    def on_configure(self, state: Any) -> Result:
        return Result.SUCCESS

    def on_cleanup(self, state: Any) -> Result:
        return Result.SUCCESS

    def on_shutdown(self, state: Any) -> Result:
        return Result.SUCCESS

    def on_error(self, state: Any) -> Result:
        return Result.SUCCESS

    def on_activate(self, state: Any) -> Result:
        return self._switch(True)

    def on_deactivate(self, state: Any) -> Result:
        return self._switch(False)


class Buffer:
    """tf2's; `transforms` by source frame."""

    transforms: dict[str, Any]

    def __init__(self) -> None:
        self.transforms = {}

    def lookup_transform(self, target: str, source: str, when: Any) -> Any:
        assert target == "odom"
        if source not in self.transforms:
            raise TransformError(source)
        return self.transforms[source]


class TransformError(Exception):
    pass


def _kinds(*names: str) -> dict[str, type]:
    return {name: type(name, (Message,), {}) for name in names}


class _Levels(Message):
    OK, WARN, ERROR = b"\0", b"\1", b"\2"


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins where the node's imports find them, for one test."""
    group = type("MutuallyExclusiveCallbackGroup", (), {})
    policies = {
        name: SimpleNamespace(
            KEEP_LAST="last", BEST_EFFORT="best", VOLATILE="vol", TRANSIENT_LOCAL="kept"
        )
        for name in ("DurabilityPolicy", "HistoryPolicy", "ReliabilityPolicy")
    }
    contents: dict[str, dict[str, Any]] = {
        "rclpy": {},
        "rclpy.callback_groups": {"MutuallyExclusiveCallbackGroup": group},
        "rclpy.clock": {"Clock": Message, "ClockType": SimpleNamespace(STEADY_TIME="steady")},
        "rclpy.executors": {"MultiThreadedExecutor": Message},
        "rclpy.lifecycle": {"LifecycleNode": LifecycleNode, "TransitionCallbackReturn": Result},
        "rclpy.qos": {"QoSProfile": Message, **policies},
        "rclpy.signals": {"SignalHandlerOptions": SimpleNamespace(NO="no")},
        "rclpy.time": {"Time": Message},
        "tf2_ros": {
            "Buffer": Buffer,
            "TransformListener": lambda *_: SimpleNamespace(unregister=lambda: None),
            "TransformException": TransformError,
        },
        "rcl_interfaces.msg": _kinds("ParameterDescriptor"),
        "diagnostic_msgs.msg": {
            **_kinds("DiagnosticArray", "KeyValue"),
            "DiagnosticStatus": _Levels,
        },
        "geometry_msgs.msg": _kinds("PoseStamped", "Twist", "TwistStamped"),
        "nav_msgs.msg": _kinds("Odometry"),
        "sensor_msgs.msg": _kinds("CameraInfo", "Image"),
        "std_msgs.msg": _kinds("String"),
        "std_srvs.srv": _kinds("Trigger"),
    }
    for name, members in contents.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "dreamer_nav_ros.node", raising=False)
