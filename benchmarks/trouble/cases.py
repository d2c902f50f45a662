"""The kinds of trouble, and the scene of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from async_triggers.simulator.proxies import PROXY_ANSWERS, PROXY_REFUSALS
from benchmarks.sides import VENDORS

if TYPE_CHECKING:
    from benchmarks.cells import Fare
    from benchmarks.sides import Side, Vendor

Way: TypeAlias = Literal["unresolved", "refused", "tls"]
"""How a network keeps a request from its server: the name of the server does not resolve,
its port is closed, or something that does not speak TLS answers there."""

PATIENCE = 60.0
"""Seconds after the end of the job, and of the fault, in which an answer counts."""
LATENCY = 0.05
"""Seconds that every answer takes."""
GATHER = 5.0
"""Seconds until the first look of this package's triggers, at most."""
LONG_BLOCK = 0.5
"""Seconds. Airflow warns from 0.2 s on, which a busy machine makes of nothing."""
SLACK = 0.1
"""Seconds by which a job may seem to have been told before its end."""
RESCHEDULED = "rescheduled"
PUT_OFF = 20.0
"""Seconds by which a sync is put off."""
HURRY = 1.0
"""Seconds between two polls where it is only tried whether the benchmark works."""
LEISURE = 10.0
"""Seconds after which a job ends then, so that a busy machine polls it before."""
AT_ONCE = 12
"""Cells that run at the same time. They mostly wait."""

POLLS: Mapping[str, str] = {
    "airbyte": "*/jobs*",
    "fivetran": "/v1/connect*",
    "dbt_cloud": "*/runs/*",
}
"""The paths by which a vendor is asked how a job is doing."""
_LIVES: Mapping[str, tuple[str, str]] = {
    "airbyte": ("running", "succeeded"),
    "fivetran": ("syncing", "succeeded"),
    "dbt_cloud": ("running", "success"),
}
CONNECTION = "c1"
_JOB = 7001
_DBT_JOB = 501


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of trouble.

    ``fault`` are the fields of a :class:`~async_triggers.simulator.faults.Fault`; with
    ``lasts`` it hits everything for so many seconds, else one answer to a poll. ``word``
    by vendor is a status that the job has for a while, and ``arrange`` what is arranged
    when the fault is due. ``way`` is how the network fails for ``lasts`` seconds.
    ``patience`` is added where an answer asks for it.
    """

    name: str
    title: str
    fault: Mapping[str, Any] = field(default_factory=dict)
    lasts: float = 0.0
    word: Mapping[str, str] = field(default_factory=dict)
    arrange: Mapping[str, Any] = field(default_factory=dict)
    way: Way | None = None
    vendors: Sequence[str] = VENDORS
    patience: float = 0.0


CASES: tuple[Case, ...] = (
    Case(name="none", title="none, for comparison"),
    *(
        Case(
            name=str(status),
            title=f"one answer {status}",
            fault={"kind": "status", "status": status},
        )
        for status in (500, 502, 503, 504)
    ),
    Case(
        name="429",
        title="one answer 429 that does not say for how long",
        fault={"kind": "status", "status": 429},
        # dbt Cloud documents a cooldown of five minutes, which ours waits for.
        patience=300.0,
    ),
    Case(
        name="429-retry-after",
        title="one answer 429 with `Retry-After: 10`",
        fault={"kind": "status", "status": 429, "retry_after": 10},
    ),
    Case(name="reset", title="one connection reset", fault={"kind": "reset"}),
    Case(
        name="close",
        title="one connection closed without an answer",
        fault={"kind": "close"},
    ),
    Case(name="hang", title="one answer that never comes", fault={"kind": "hang"}),
    Case(
        name="slow",
        title="one answer that takes 20 s to arrive",
        fault={"kind": "slow", "seconds": 20.0},
    ),
    Case(
        name="truncate",
        title="one answer broken off in its middle",
        fault={"kind": "truncate"},
    ),
    Case(name="html", title="one web page in place of JSON", fault={"kind": "html"}),
    Case(name="cut", title="one answer with half its JSON", fault={"kind": "cut"}),
    Case(name="empty", title="one empty answer", fault={"kind": "empty"}),
    Case(
        name="token",
        title="access token revoked before its time",
        arrange={"expire_tokens": [{}]},
        vendors=("airbyte",),
    ),
    Case(
        name="queued",
        title="the job is queued again for a while",
        word={"airbyte": "queued", "fivetran": "scheduled", "dbt_cloud": "queued"},
    ),
    Case(
        name="unknown",
        title="a status that nobody knows, for a while",
        word={"airbyte": "suspended", "fivetran": "archiving", "dbt_cloud": "99"},
    ),
    Case(
        name="rescheduled",
        title="the vendor puts the sync off by 20 s (manual schedule)",
        word={"fivetran": RESCHEDULED},
        vendors=("fivetran",),
        patience=60.0,
    ),
    Case(
        name="outage-3",
        title="all connections reset for 3 s",
        fault={"kind": "reset"},
        lasts=3.0,
    ),
    Case(
        name="outage-30",
        title="all connections reset for 30 s",
        fault={"kind": "reset"},
        lasts=30.0,
    ),
)


BRIEF = 25.0
"""Seconds that what stands in between fails in the table beside the official triggers."""
LONG = 600.0
"""Seconds that it fails in the table on the virtual clock."""
HOUR = 3600.0
_EXAMPLES = (
    *("go-404", "nginx-400", "nginx-401", "nginx-403", "aws-waf-403", "kong-401"),
    *("envoy-403", "problem-401", "framework-problem-403", "spring-404"),
    *("fastapi-404", "kubernetes-403", "numeric-code-404", "haproxy-408"),
    *("nginx-421", "nginx-425", "nginx-429", "login-302", "moved-307"),
    *("empty-401", "empty-404"),
)
"""Those answers of proxies that the official triggers are shown as well."""
_TOKENS = ("nginx-404", "nginx-403", "fastapi-422", "login-200")
_WAYS: Mapping[Way, str] = {
    "unresolved": "the vendor's name does not resolve",
    "refused": "the port is refused",
    "tls": "something that speaks no TLS answers",
}
_COOLDOWN = 300.0
"""Seconds for which a 429 that does not say for how long pauses an account."""


def between(lasts: float) -> tuple[Case, ...]:
    """Return what can fail between Airflow and a vendor, each for so many seconds."""
    names = _EXAMPLES if lasts <= BRIEF else tuple(PROXY_REFUSALS)
    return (
        *(_proxy(name, lasts) for name in names),
        *(_token(name, lasts) for name in _TOKENS),
        *(
            Case(name=way, title=title, way=way, lasts=lasts)
            for way, title in _WAYS.items()
        ),
        *(
            Case(
                name=f"date-{word}",
                title=f"one `Date` an hour {word}",
                fault={"kind": "date", "seconds": off},
            )
            for word, off in (("ahead", HOUR), ("behind", -HOUR))
        ),
        *(
            Case(
                name=f"clock-{word}",
                title=f"the server's clock an hour {word}",
                fault={"kind": "clock", "seconds": off},
                lasts=lasts,
            )
            for word, off in (("ahead", HOUR), ("behind", -HOUR))
        ),
    )


def _proxy(name: str, lasts: float) -> Case:
    return Case(
        name=name,
        title=f"`{name}`: {_shown(name)}",
        fault={"kind": "proxy", "answer": name},
        lasts=lasts,
        patience=_COOLDOWN if PROXY_ANSWERS[name].status == 429 else 0.0,
    )


def _token(name: str, lasts: float) -> Case:
    return Case(
        name=f"token-{name}",
        title=f"the token endpoint answers `{name}`, the token has expired",
        fault={"kind": "proxy", "answer": name, "operation": "token"},
        arrange={"expire_tokens": [{}]},
        lasts=lasts,
        vendors=("airbyte",),
    )


def _shown(name: str) -> str:
    """Say in a few words what an answer is made of."""
    answer = PROXY_ANSWERS[name]
    if "Location" in answer.headers:
        host = answer.headers["Location"].split("/")[2]
        return f"{answer.status} to {host}"

    kind = (answer.content_type or "nothing").partition(";")[0]
    words = {
        "text/html": "a page",
        "text/plain": "text",
        "application/json": "JSON",
        "application/problem+json": "a problem object",
        "nothing": "no body",
    }
    return f"{answer.status}, {words[kind]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When what happens in a cell, in seconds from its start."""

    interval: float
    first: float
    """When the first look is due."""
    floor: float = 0.0
    """A shorter floor for this package's triggers, 0 for the vendor's own."""

    @property
    def hit(self) -> float:
        """When the second look is due: the fault is there by then."""
        return self.first + self.interval

    @property
    def lead(self) -> float:
        """How long before the second look a fault that lasts begins."""
        return min(1.5, self.interval / 4)

    @property
    def end(self) -> float:
        """When the job ends."""
        return self.hit + (LEISURE if self.floor else min(2.0, self.interval / 2))


@dataclass(frozen=True, slots=True)
class Cell:
    """One trigger and one kind of trouble."""

    case: Case
    vendor: Vendor
    side: Side

    @property
    def name(self) -> str:
        """What tells the cell from all others."""
        return f"{self.case.name}/{self.vendor}/{self.side}/{self.case.lasts:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of the task of one cell.

    ``late`` is how many seconds after the job's end it was told, and ``hits`` how many
    requests the fault hit.
    """

    cell: Cell
    fare: Fare
    late: float | None
    hits: int

    @property
    def survived(self) -> bool:
        """Whether the job's success was told as such, and not too early."""
        told = self.fare.ending == "event" and self.fare.status == "success"
        return told and (self.late is None or self.late >= -SLACK)

    @property
    def answered(self) -> bool:
        """Whether there was any end at all."""
        return self.fare.ending != "none"

    @property
    def blocked(self) -> bool:
        """Whether the loop stood still for long."""
        return self.fare.blocked > LONG_BLOCK

    @property
    def verdict(self) -> str:
        """Say in a word or two what became of it."""
        if self.survived:
            return "survived"

        return "failed the task" if self.answered else "never answered"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "fault": self.cell.case.name,
            "vendor": self.cell.vendor,
            "side": self.cell.side,
            "verdict": self.verdict,
            "late_s": None if self.late is None else round(self.late, 3),
            "longest_block_s": round(self.fare.blocked, 3),
            "blocked_loop": self.blocked,
            "status": self.fare.status,
            "message": self.fare.message,
            "requests_hit": self.hits,
        }


class Scene(Protocol):
    """A simulated vendor, in this process or by its control API."""

    def reset(self) -> None:
        """Return to the beginning."""

    def arrange(self, **things: Any) -> None:
        """Arrange things."""


def arrange(control: Scene, cell: Cell, timing: Timing) -> str:
    """Set the scene of a cell, and return what its trigger is to wait for."""
    running, done = _LIVES[cell.vendor]
    life = f"{running}:{timing.end:g} {done}"
    word = cell.case.word.get(cell.vendor)
    if word is not None:
        before, rest = timing.hit - timing.lead, (timing.end - timing.hit) / 2
        shown = PUT_OFF if word == RESCHEDULED else timing.lead + rest
        life = f"{running}:{before:g} {word}:{shown:g} {running}:{rest:g} {done}"

    control.reset()
    control.arrange(settings={"latency": LATENCY})
    match cell.vendor:
        case "airbyte":
            control.arrange(
                connections=[{"connection_id": CONNECTION}],
                jobs=[
                    {"connection_id": CONNECTION, "life": life, "job_id": _JOB},
                ],
            )
            return str(_JOB)
        case "dbt_cloud":
            control.arrange(
                jobs=[{"job_id": _DBT_JOB, "job_type": "ci"}],
                runs=[{"job_id": _DBT_JOB, "life": life, "run_id": _JOB}],
            )
            return str(_JOB)
        case "fivetran":
            control.arrange(
                connections=[
                    {
                        "connection_id": CONNECTION,
                        "lives": [life],
                        "succeeded_ago": 3600.0,
                        "failed_ago": 86400.0,
                    }
                ],
                syncs=[{"connection_id": CONNECTION}],
            )
            return CONNECTION
