"""The lifecycle node: topics, timers and services around a `Pilot`. The only module that imports ROS."""

from __future__ import annotations

import math
import signal
import threading
import time
from typing import Any, Callable, Dict, List, Optional

import rclpy
import tf2_ros
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from dreamer_nav_ros import messages
from dreamer_nav_ros.camera_info import Intrinsics, fit_camera
from dreamer_nav_ros.command import FAULT, LATCHED, STOPPED_SHORT, Command
from dreamer_nav_ros.contract_fields import CameraField, PolicyFields, read_fields
from dreamer_nav_ros.goal import FrameTransform
from dreamer_nav_ros.pilot import Pilot
from dreamer_nav_ros.policy_source import load_policy
from dreamer_nav_ros.settings import Settings, parameters, read_settings

# Of sensors only the newest message matters, and one that was lost is not worth waiting for.
SENSOR_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
DIAGNOSTICS_PERIOD_S = 1.0


class DreamerNavNode(LifecycleNode):
    """Drives a robot to goals with a policy file; see the README for topics and parameters."""

    def __init__(self, load: Callable[[str, str], Any] = load_policy) -> None:
        """Declare the parameters; `load` gives a tested policy for a path and a hash."""
        super().__init__("dreamer_nav")
        self._load = load
        for parameter in parameters():
            descriptor = ParameterDescriptor(description=parameter.description)
            self.declare_parameter(parameter.name, parameter.default, descriptor)
        # Sensors, control and watchdog never wait for one another.
        self._sensor_group = MutuallyExclusiveCallbackGroup()
        self._control_group = MutuallyExclusiveCallbackGroup()
        self._watchdog_group = MutuallyExclusiveCallbackGroup()
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._settings = Settings()
        self._pilot: Optional[Pilot] = None
        self._camera_infos: Dict[str, Intrinsics] = {}
        self._camera_info_came = threading.Event()
        self._subscriptions_made: List[Any] = []
        self._services_made: List[Any] = []
        self._timers_made: List[Any] = []
        self._last_state = ""

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Load and test the policy, and check the camera; refuse with the reason in the log."""
        try:
            self._configure()
        # Whatever is wrong, the node stays unconfigured and says why.
        except Exception as error:
            self.get_logger().error(f"cannot configure: {error}")
            self._destroy_interfaces()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Publish from now on; wait for a goal."""
        result = super().on_activate(state)
        pilot = self._need_pilot()
        pilot.activate()
        settings = self._settings
        self._timers_made = [
            self.create_timer(
                1.0 / settings.control_rate_hz, self._control, callback_group=self._control_group
            ),
            self.create_timer(
                0.25 * settings.watchdog_timeout_s,
                self._watch,
                callback_group=self._watchdog_group,
                clock=self._steady_clock,
            ),
            self.create_timer(
                DIAGNOSTICS_PERIOD_S, self._diagnose, callback_group=self._control_group
            ),
        ]
        return result

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Send zero, then publish nothing."""
        self.halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Let go of the policy."""
        self.halt()
        self._destroy_interfaces()
        return super().on_cleanup(state)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Send zero and let go of the policy."""
        self.halt()
        self._destroy_interfaces()
        return super().on_shutdown(state)

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        """Send zero and let go of the policy, after a transition that failed half-way."""
        self.halt()
        self._destroy_interfaces()
        return super().on_error(state)

    def halt(self) -> None:
        """Send zero, stop the timers and publish nothing more; without effect before configure."""
        if self._pilot is not None:
            self._pilot.deactivate(self._publish)
        for timer in self._timers_made:
            self.destroy_timer(timer)
        self._timers_made = []

    def _configure(self) -> None:
        values = {p.name: self.get_parameter(p.name).value for p in parameters()}
        self._settings = settings = read_settings(values)
        policy = self._load(settings.policy_file, settings.policy_sha256)
        fields = read_fields(policy.spec)
        self._make_publishers()
        cameras = self._await_cameras(fields)
        windows = {}
        for field in fields.cameras:
            windows[field.name] = fit_camera(
                cameras[field.name], field, settings.hfov_tolerance_deg, settings.allow_crop
            )
            self._tell_mount(field)
        self._pilot = Pilot(policy, fields, cameras, windows, settings)
        self._subscribe(fields)
        self._serve()

    def _make_publishers(self) -> None:
        command_type = TwistStamped if self._settings.enable_stamped_cmd_vel else Twist
        self._command_pub = self.create_lifecycle_publisher(command_type, "cmd_vel", 1)
        self._state_pub = self.create_lifecycle_publisher(String, "~/state", LATCHED_QOS)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def _await_cameras(self, fields: PolicyFields) -> Dict[str, Intrinsics]:
        """CameraInfo of every camera; the sensors' callbacks run in other threads meanwhile."""
        self._camera_infos = {}
        for kind, field in (("depth", fields.depth), ("rgb", fields.rgb)):
            if field is not None:
                self._listen(CameraInfo, f"{kind}/camera_info", self._camera_info_callback(field))
        deadline = time.monotonic() + self._settings.camera_info_timeout_s
        wanted = {field.name for field in fields.cameras}
        while wanted - set(self._camera_infos):
            left = deadline - time.monotonic()
            if left <= 0:
                missing = sorted(wanted - set(self._camera_infos))
                raise RuntimeError(
                    f"no CameraInfo of {missing} within {self._settings.camera_info_timeout_s} s; "
                    "start the camera first, and check the remapping of its camera_info topic"
                )
            self._camera_info_came.wait(left)
            self._camera_info_came.clear()
        return dict(self._camera_infos)

    def _camera_info_callback(self, field: CameraField) -> Callable[[Any], None]:
        def take(msg: Any) -> None:
            info = messages.intrinsics(msg)
            self._camera_infos[field.name] = info
            self._camera_info_came.set()
            if self._pilot is not None:
                self._pilot.on_camera_info(field.name, info)

        return take

    def _tell_mount(self, field: CameraField) -> None:
        """What CameraInfo cannot show, a person must check."""
        if field.mount_height_m is not None:
            pitch = "unknown" if field.pitch_deg is None else f"{field.pitch_deg} degrees"
            self.get_logger().info(
                f"the policy expects the {field.name} camera {field.mount_height_m} m above the "
                f"floor with pitch {pitch}: check that it is mounted so"
            )

    def _subscribe(self, fields: PolicyFields) -> None:
        pilot = self._need_pilot()
        if fields.depth is not None:
            self._listen(Image, "depth/image", lambda msg: pilot.on_depth(messages.picture(msg)))
        if fields.rgb is not None:
            self._listen(Image, "rgb/image", lambda msg: pilot.on_image(messages.picture(msg)))
        self._listen(Odometry, "odom", lambda msg: pilot.on_odometry(messages.odometry(msg)))
        self._subscriptions_made.append(
            self.create_subscription(
                PoseStamped, "goal_pose", self._take_goal, 1, callback_group=self._control_group
            )
        )
        self._tf_buffer = tf2_ros.Buffer()
        self._tf_listener = tf2_ros.TransformListener(self._tf_buffer, self)

    def _listen(self, message_type: Any, topic: str, callback: Callable[[Any], None]) -> None:
        self._subscriptions_made.append(
            self.create_subscription(
                message_type, topic, callback, SENSOR_QOS, callback_group=self._sensor_group
            )
        )

    def _serve(self) -> None:
        self._services_made.append(
            self.create_service(
                Trigger, "~/reset_stop", self._reset_stop, callback_group=self._control_group
            )
        )

    def _destroy_interfaces(self) -> None:
        self._pilot = None
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        for service in self._services_made:
            self.destroy_service(service)
        self._subscriptions_made, self._services_made = [], []
        for name in ("_command_pub", "_state_pub", "_diagnostics_pub"):
            publisher = self.__dict__.pop(name, None)
            if publisher is not None:
                self.destroy_publisher(publisher)
        listener = self.__dict__.pop("_tf_listener", None)
        if listener is not None:
            listener.unregister()

    def _need_pilot(self) -> Pilot:
        assert self._pilot is not None, "the lifecycle configures before it activates"
        return self._pilot

    def _now_s(self) -> float:
        return float(self.get_clock().now().nanoseconds) * 1e-9

    def _control(self) -> None:
        if self._pilot is not None:
            self._report(self._pilot.tick(self._now_s(), self._lookup, self._publish))

    def _watch(self) -> None:
        if self._pilot is not None and self._pilot.watch(self._publish):
            self.get_logger().error(
                "watchdog: no control step was finished in time, zero was sent",
                throttle_duration_sec=1.0,
            )

    def _lookup(self, frame: str) -> Optional[FrameTransform]:
        """The newest transform of `frame` into the odometry's frame, None while there is none."""
        try:
            found = self._tf_buffer.lookup_transform(self._settings.odom_frame, frame, Time())
        except tf2_ros.TransformException:
            return None
        result = messages.transform(found)
        return result if all(map(math.isfinite, result.pose)) else None

    def _publish(self, command: Command) -> None:
        if self._settings.enable_stamped_cmd_vel:
            msg = TwistStamped()
            msg.header.stamp = self.get_clock().now().to_msg()
            msg.header.frame_id = self._settings.base_frame
            messages.fill_twist(msg.twist, command)
        else:
            msg = Twist()
            messages.fill_twist(msg, command)
        self._command_pub.publish(msg)

    def _report(self, command: Command) -> None:
        """Say a change of state once, on the topic and in the log."""
        state = f"{command.state} {command.fault}".strip()
        if state == self._last_state:
            return
        self._last_state = state
        self._state_pub.publish(String(data=state))
        text = f"{state}: {command.detail}" if command.detail else state
        log = self.get_logger()
        if command.state in (FAULT, LATCHED):
            log.error(text)
        elif command.state == STOPPED_SHORT:
            log.warning(text)
        else:
            log.info(text)

    def _take_goal(self, msg: Any) -> None:
        if self._pilot is None:
            return
        goal = messages.goal_message(msg)
        try:
            is_new = self._pilot.on_goal(goal)
        except ValueError as error:
            self.get_logger().error(f"goal refused: {error}")
            return
        if is_new:
            self.get_logger().info(f"new goal ({goal.x:.2f}, {goal.y:.2f}) in {goal.frame!r}")

    def _reset_stop(self, request: Any, response: Any) -> Any:
        del request
        was_latched = self._pilot is not None and self._pilot.reset_stop()
        response.success = True
        response.message = (
            "the stop was latched and is open; send a new goal"
            if was_latched
            else "the stop was not latched; the goal was dropped"
        )
        return response

    def _diagnose(self) -> None:
        if self._pilot is None:
            return
        status = DiagnosticStatus(name="dreamer_nav: policy", hardware_id="dreamer_nav")
        values = self._pilot.status()
        status.level = _level(values["state"])
        status.message = f"{values['state']} {values['fault']}".strip()
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_pub.publish(array)


def _level(state: str) -> Any:
    if state in (FAULT, LATCHED):
        return DiagnosticStatus.ERROR
    return DiagnosticStatus.WARN if state == STOPPED_SHORT else DiagnosticStatus.OK


def main(args: Optional[List[str]] = None) -> None:
    """Run the node until SIGINT or SIGTERM; the last thing it sends is zero."""
    # ROS's own handlers would close the context before the zero is out.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    node = DreamerNavNode()
    # Sensors, control, watchdog and lifecycle services need a thread each; tf2 takes what is left.
    executor = MultiThreadedExecutor(num_threads=6)
    executor.add_node(node)
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    finally:
        node.halt()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
