"""How a script in a client's environment reports its calls; needs no other package."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Calls:
    """Makes one call after the other and prints a line of JSON for each.

    :ivar given: What the test gave the script: addresses, ids, credentials.
    """

    def __init__(self) -> None:
        self.given: dict[str, Any] = json.loads(sys.argv[1])

    def check(
        self, name: str, call: Callable[[], Any], is_right: Callable[[Any], object]
    ) -> Any:
        """Make a call, print whether its answer is right, and return the answer."""
        try:
            answer = call()
            wrong = "" if is_right(answer) else f"answered {answer!r:.300}"
        except Exception as error:  # noqa: BLE001 - it is the verdict
            answer, wrong = None, f"{type(error).__name__}: {error!s:.300}"
        print(json.dumps({"call": name, "wrong": wrong}), flush=True)
        return answer

    def refuses(self, name: str, call: Callable[[], Any], text: str) -> None:
        """Make a call that the client must fail, with a text in its error."""
        try:
            wrong = f"answered {call()!r:.300}"
        except Exception as error:  # noqa: BLE001 - it is the verdict
            wrong = (
                "" if text in str(error) else f"{type(error).__name__}: {error!s:.300}"
            )
        print(json.dumps({"call": name, "wrong": wrong}), flush=True)
