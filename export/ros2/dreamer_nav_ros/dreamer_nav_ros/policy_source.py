"""Where the policy comes from: the one place that imports dreamer-nav-export."""

from __future__ import annotations

from typing import Any


def load_policy(path: str, expected_sha256: str) -> Any:
    """Return a `dreamer_nav_export.runtime.Policy` that has passed its self-test.

    Args:
        path: of the .onnx file.
        expected_sha256: 64 hexadecimal digits, or "" to trust the file's own .sha256, if any.

    Raises:
        RuntimeError: dreamer-nav-export is not installed for this Python.
        dreamer_nav_export.errors.PolicyError: the file is damaged, not a policy, or computes
            something else on this machine than where it was made.
    """
    try:
        from dreamer_nav_export.runtime import Policy
    except ImportError as error:
        raise RuntimeError(
            f"{error}; install it for the Python that runs ROS: "
            "python3 -m pip install dreamer-nav-export"
        ) from error
    policy = Policy.load(path, expected_sha256=expected_sha256 or None)
    policy.selftest()
    return policy
