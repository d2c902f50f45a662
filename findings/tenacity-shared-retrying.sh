#!/bin/sh
# Tenacity: tasks that share one AsyncRetrying object end each other's retries.
#
# A retry policy reads like a value: how often, how long, on which errors. One would expect to
# build it once, at the top of a module, and to let every request of every task run
# "async for attempt in POLICY". The decorator form can be shared like that, because it copies
# itself at each call. In the loop form, the last outcome and the count of attempts live on the
# policy object. A task that has succeeded finds the state of another one and makes its request
# again; a task whose only attempt failed finds the success of another one and leaves the loop
# without an error.
#
# Who meets it: authors of hooks and triggers, where many tasks share one event loop. A test
# with a single task shows nothing. Build the policy for each call, or use POLICY.copy().
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet tenacity==9.2.1

"$work/venv/bin/python" - <<'PY'
import asyncio
from importlib.metadata import version

from tenacity import AsyncRetrying, stop_after_attempt, wait_fixed

POLICY = AsyncRetrying(stop=stop_after_attempt(3), wait=wait_fixed(0.4), reraise=True)


async def request(policy, *, seconds, works):
    """Make one request with retries, and report how it ended."""
    attempts = 0
    try:
        async for attempt in policy:
            with attempt:
                attempts += 1
                await asyncio.sleep(seconds)
                if not works:
                    raise ConnectionError("refused")
    except ConnectionError as error:
        return f"attempts: {attempts}, then {error!r}"
    return f"attempts: {attempts}, no error"


async def both(get_policy):
    return await asyncio.gather(
        request(get_policy(), seconds=0.1, works=True),
        request(get_policy(), seconds=0.0, works=False),
    )


print(f"tenacity {version('tenacity')}: two tasks, three attempts allowed, the second always fails")
apart = asyncio.run(both(POLICY.copy))
shared = asyncio.run(both(lambda: POLICY))
print("a policy each:", *apart, sep="\n  ")
print("one for both:", *shared, sep="\n  ")

assert apart == ["attempts: 1, no error", "attempts: 3, then ConnectionError('refused')"]
assert shared == ["attempts: 2, no error", "attempts: 1, no error"]
PY
