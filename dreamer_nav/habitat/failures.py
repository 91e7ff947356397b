"""A user's mistake ends habitat-baselines with one line instead of Hydra's traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dreamer_nav.failures import one_line

__all__ = ["user_errors"]


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what the user can mend into `error: ...` on stderr and exit status 1; bugs keep their traceback."""
    try:
        yield
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        # Hydra lets this pass, where it wraps exceptions.
        sys.exit(f"error: {line.replace(' (--traceback shows all of it)', '')}")
