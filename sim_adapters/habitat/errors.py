"""What a user of habitat-lab can mend, said in one line."""

from __future__ import annotations


class HabitatError(ValueError):
    """habitat-lab cannot do what was asked for; the message says what there is and what to do."""
