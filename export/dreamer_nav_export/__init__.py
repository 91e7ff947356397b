"""Policies of dreamer-nav as ONNX files: written where torch is, run on a robot where it is not.

This release holds the distribution's outline only: no writer and no runtime yet. Importing it imports neither torch
nor dreamer_nav, and that will stay so for everything a robot runs.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
