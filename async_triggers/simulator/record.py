"""What a simulated vendor was sent: counts and facts, never credentials."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any, Final

_KEPT_EXCHANGES: Final = 20_000
_SECRET_PARAMETERS: Final = frozenset(
    {"access_token", "api_key", "client_secret", "password", "secret", "token"}
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it.

    ``at`` is the server's clock in epoch seconds; ``endpoint`` names the operation,
    such as ``GET /jobs/{job_id}``; ``fault`` the trouble made, if any.
    """

    at: float
    endpoint: str
    path: str
    query: tuple[tuple[str, str], ...]
    status: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class Start:
    """One job that a request has started.

    ``target`` is the vendor's id of what was started (connection or job), ``job`` the
    id of the run, ``details`` what the request said (type, cause, overrides).
    """

    at: float
    target: str
    job: str
    details: dict[str, Any]


@dataclass(slots=True)
class Record:
    """What one vendor's API was sent, from its start or last reset.

    :ivar total: All requests, the ones for tokens and the refused ones included.
    :ivar requests: Requests by endpoint, such as ``GET /jobs/{job_id}``.
    :ivar statuses: Answers by status code; requests without an answer count as 0.
    :ivar faults: Troubles made, by kind.
    :ivar starts: Jobs started by request, by connection (dbt Cloud: by job).
    :ivar refused_starts: Start requests that started nothing, likewise.
    :ivar cancels: Jobs that a request has cancelled, by job (Fivetran: syncs stopped
        by pausing, by connection).
    :ivar unauthorized: Requests answered with 401.
    :ivar tokens_issued: Access tokens given out.
    :ivar tcp_connections: Connections that clients opened.
    :ivar body_bytes: Bytes in the bodies of all answers, before any fault.
    :ivar open_connections: Connections open now.
    :ivar max_connections: The most that were open at once.
    :ivar facts: What else a vendor counts, such as Fivetran's ``setup_tests``.
    :ivar started: The starts in order.
    :ivar exchanges: The latest requests in order, at most 20,000.
    """

    total: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    refused_starts: Counter[str] = field(default_factory=Counter)
    cancels: Counter[str] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    unauthorized: int = 0
    tokens_issued: int = 0
    tcp_connections: int = 0
    body_bytes: int = 0
    open_connections: int = 0
    max_connections: int = 0
    started: list[Start] = field(default_factory=list)
    exchanges: deque[Exchange] = field(
        default_factory=lambda: deque(maxlen=_KEPT_EXCHANGES)
    )

    def count(self, *words: str) -> int:
        """Return how many requests there were whose endpoint holds all the words.

        ``count("GET")`` counts all reads, ``count("POST", "/jobs")`` the starts.
        """
        return sum(
            number
            for endpoint, number in self.requests.items()
            if all(word in endpoint for word in words)
        )

    def note_start(
        self, at: float, target: str, job: object, details: dict[str, Any]
    ) -> None:
        """Count a job that a request has started."""
        self.starts[target] += 1
        self.started.append(Start(at, target, str(job), details))

    def add(
        self,
        endpoint: str,
        *,
        at: float,
        path: str,
        query: list[tuple[str, str]],
        status: int,
        fault: str | None,
        answered: bool,
        size: int,
    ) -> None:
        """Count one request."""
        shown = status if answered else 0
        self.total += 1
        self.requests[endpoint] += 1
        self.statuses[shown] += 1
        self.body_bytes += size
        if fault is not None:
            self.faults[fault] += 1
        if shown == 401:
            self.unauthorized += 1
        masked = tuple(
            (key, "***" if key.lower() in _SECRET_PARAMETERS else value)
            for key, value in query
        )
        self.exchanges.append(Exchange(at, endpoint, path, masked, shown, fault))

    def connection_opened(self) -> None:
        """Count a TCP connection."""
        self.tcp_connections += 1
        self.open_connections += 1
        self.max_connections = max(self.max_connections, self.open_connections)

    def connection_closed(self) -> None:
        """Count the end of a TCP connection."""
        self.open_connections -= 1

    def clear(self) -> None:
        """Forget everything but the connections that are open now."""
        fresh = Record(
            open_connections=self.open_connections,
            max_connections=self.open_connections,
        )
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def as_dict(self, *, exchanges: bool = False) -> dict[str, Any]:
        """Return the record as JSON values; single requests only where requested."""
        found: dict[str, Any] = {
            "total": self.total,
            "requests": dict(sorted(self.requests.items())),
            "statuses": {str(key): self.statuses[key] for key in sorted(self.statuses)},
            "faults": dict(sorted(self.faults.items())),
            "starts": dict(self.starts),
            "refused_starts": dict(self.refused_starts),
            "cancels": dict(self.cancels),
            "facts": dict(self.facts),
            "unauthorized": self.unauthorized,
            "tokens_issued": self.tokens_issued,
            "tcp_connections": self.tcp_connections,
            "body_bytes": self.body_bytes,
            "open_connections": self.open_connections,
            "max_connections": self.max_connections,
            "started": [asdict(start) for start in self.started],
        }
        if exchanges:
            found["exchanges"] = [asdict(one) for one in self.exchanges]
        return found
