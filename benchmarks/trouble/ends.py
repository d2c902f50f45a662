"""What must end: waits that cannot come to anything any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from async_triggers.simulator.faults import Fault
from benchmarks.trouble.cases import HOUR

Act: TypeAlias = Callable[[Any, str], None]
"""Does something to a simulated vendor and to the job that is waited for."""

_OTHER = "another-secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Something that is over for good at ``at``, while a job is waited for.

    ``interval`` is how often it is polled, ``limit`` for how many seconds the benchmark
    waits for the task to fail.
    """

    name: str
    title: str
    act: Act
    at: float = 120.0
    interval: float = 60.0
    limit: float = 12 * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a wait ended, or did not, that cannot come to anything.

    ``after`` is how many seconds it took from the moment at which it was over, and
    ``requests`` how many were made meanwhile; None where they cannot be counted.
    """

    name: str
    title: str
    vendor: str
    after: float | None
    message: str
    requests: int | None

    @property
    def failed(self) -> bool:
        """Whether the task failed, with a message."""
        return self.after is not None and bool(self.message)


def _revoke(vendor: Any, _job: str) -> None:
    if vendor.name == "airbyte":
        vendor.configure(client_secret=_OTHER)
        vendor.expire_tokens()
    elif vendor.name == "fivetran":
        vendor.configure(api_secret=_OTHER)
    else:
        vendor.configure(tokens=(_OTHER,))


def _delete(vendor: Any, job: str) -> None:
    with vendor.lock:
        if vendor.name == "airbyte":
            del vendor.all_jobs[int(job)]
        elif vendor.name == "fivetran":
            del vendor.connections[job]
        else:
            run = vendor.runs.pop(int(job))
            run.job.runs.remove(run)


def _withdraw(vendor: Any, _job: str) -> None:
    # A role speaks of data; whoever has it still gets a token.
    for operation in ("poll", "list", "start", "cancel"):
        vendor.faults.add(
            Fault(kind="status", status=403, operation=operation, times=None)
        )


def _deny(vendor: Any, _job: str) -> None:
    vendor.faults.add(Fault(kind="proxy", answer="nginx-403", times=None))


ENDS: tuple[End, ...] = (
    End(name="revoked", title="the key is revoked", act=_revoke),
    End(name="deleted", title="the job is deleted at the vendor", act=_delete),
    End(
        name="withdrawn",
        title="the role is withdrawn: 403 in the vendor's own shape",
        act=_withdraw,
    ),
    End(name="denied", title="a gateway denies everything for good", act=_deny),
)
