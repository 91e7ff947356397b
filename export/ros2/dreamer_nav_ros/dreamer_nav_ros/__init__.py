"""Runs a dreamer-nav policy file on a ROS 2 robot.

Only `node` and the launch file import ROS; everything else is Python 3.8 and NumPy and is tested without it.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
