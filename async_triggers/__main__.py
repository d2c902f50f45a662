"""``python -m async_triggers`` is the command ``async-triggers``."""

from __future__ import annotations

import sys

from async_triggers.cli import main

if __name__ == "__main__":
    sys.exit(main())
