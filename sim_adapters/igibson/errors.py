"""What a user of iGibson can mend, said in one line."""

from __future__ import annotations


class IGibsonError(ValueError):
    """iGibson cannot do what was asked for; the message says what there is and what to do."""
