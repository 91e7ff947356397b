"""DreamerV2 for robots that must find their way. Importing this package imports neither torch nor a simulator."""

__version__ = "0.1.0"
__all__ = ["__version__"]
