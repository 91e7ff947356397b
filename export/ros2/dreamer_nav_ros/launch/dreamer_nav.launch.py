"""Starts the node, and unless `autostart:=false` configures and activates it.

    ros2 launch dreamer_nav_ros dreamer_nav.launch.py policy_file:=/path/policy.onnx

Start the camera and the base first: configuring checks the camera's CameraInfo.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

PACKAGE = "dreamer_nav_ros"
ARGUMENTS = {
    "policy_file": ("", "path of the .onnx policy file"),
    "params_file": (
        PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "dreamer_nav.yaml"]),
        "the node's parameters",
    ),
    "use_sim_time": ("false", "take the time from /clock"),
    "autostart": ("true", "configure and activate the node"),
    "depth_topic": ("depth/image", "sensor_msgs/Image, 32FC1 or 16UC1"),
    "depth_info_topic": ("depth/camera_info", "its sensor_msgs/CameraInfo"),
    "rgb_topic": ("rgb/image", "sensor_msgs/Image, for policies that take colour"),
    "rgb_info_topic": ("rgb/camera_info", "its sensor_msgs/CameraInfo"),
    "odom_topic": ("odom", "nav_msgs/Odometry"),
    "goal_topic": ("goal_pose", "geometry_msgs/PoseStamped"),
    "cmd_vel_topic": ("cmd_vel", "where commands go: the collision monitor, not the base"),
}


def generate_launch_description():
    """Return the arguments, the node and its transitions."""
    node = LifecycleNode(
        package=PACKAGE,
        executable="dreamer_nav_node",
        name="dreamer_nav",
        namespace="",
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "policy_file": ParameterValue(LaunchConfiguration("policy_file"), value_type=str),
                "use_sim_time": ParameterValue(
                    LaunchConfiguration("use_sim_time"), value_type=bool
                ),
            },
        ],
        remappings=[
            ("depth/image", LaunchConfiguration("depth_topic")),
            ("depth/camera_info", LaunchConfiguration("depth_info_topic")),
            ("rgb/image", LaunchConfiguration("rgb_topic")),
            ("rgb/camera_info", LaunchConfiguration("rgb_info_topic")),
            ("odom", LaunchConfiguration("odom_topic")),
            ("goal_pose", LaunchConfiguration("goal_topic")),
            ("cmd_vel", LaunchConfiguration("cmd_vel_topic")),
        ],
    )
    autostart = IfCondition(LaunchConfiguration("autostart"))
    configure = EmitEvent(
        event=ChangeState(
            lifecycle_node_matcher=matches_action(node),
            transition_id=Transition.TRANSITION_CONFIGURE,
        ),
        condition=autostart,
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[
                EmitEvent(
                    event=ChangeState(
                        lifecycle_node_matcher=matches_action(node),
                        transition_id=Transition.TRANSITION_ACTIVATE,
                    )
                )
            ],
        ),
        condition=autostart,
    )
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, activate, node, configure])
