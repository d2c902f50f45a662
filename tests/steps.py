"""Work counted in executed lines, of which a busy machine makes no more."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Steps:
    """How many lines of Python were executed."""

    count = 0


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """Count the lines of all that is called in the block, in this thread."""
    steps = Steps()

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            steps.count += 1

        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(before)
