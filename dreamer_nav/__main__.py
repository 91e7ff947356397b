"""`python -m dreamer_nav` is `dreamer-nav`."""

from __future__ import annotations

import sys

from dreamer_nav.cli import main

if __name__ == "__main__":
    sys.exit(main())
