"""Installs the ROS 2 package: `colcon build --packages-select dreamer_nav_ros`."""

from setuptools import setup

PACKAGE = "dreamer_nav_ros"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + PACKAGE]),
        ("share/" + PACKAGE, ["package.xml"]),
        ("share/" + PACKAGE + "/launch", ["launch/dreamer_nav.launch.py"]),
        ("share/" + PACKAGE + "/config", ["config/dreamer_nav.yaml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="dreamer-nav authors",
    maintainer_email="maintainers@dreamer-nav.invalid",
    description="PointGoal navigation with a dreamer-nav policy file",
    license="MIT",
    python_requires=">=3.8",
    entry_points={"console_scripts": ["dreamer_nav_node = dreamer_nav_ros.node:main"]},
)
