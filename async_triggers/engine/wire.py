"""The border between the engine and a vendor: values in, values out, no I/O.

A vendor says what it wants as a :class:`Request` and reads what came back from a
:class:`Reply`; :mod:`async_triggers.engine.transport` carries the one to the other. All
that the engine must know of a vendor is the protocol :class:`Vendor`.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from async_triggers.engine.decoding import NotJsonError, decode
from async_triggers.engine.errors import (
    CredentialsRejected,
    EngineError,
    JobNotFound,
    RateLimited,
    RequestRejected,
    Suspect,
    UnreadableReply,
    UnreadableRow,
    VendorBroken,
)
from async_triggers.engine.times import parse_http_date
from async_triggers.engine.watch import End

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.watch import Place

T = TypeVar("T")

Row: TypeAlias = Mapping[str, Any]
"""One object of a vendor's reply, undecoded beyond JSON."""

_USER_INFO = re.compile("//[^/?#]*@")

LONGEST_DETAIL = 400
"""Characters of a vendor's own words that an error or a statistic repeats."""
LONGEST_MESSAGE = 2000
"""Characters of what a vendor says about a job's end that are kept."""

LONGEST_PAUSE = 86_400.0
LONGEST_OUTAGE = 600.0
"""Seconds that a 429, and any other answer, may have the account wait at most."""

LONGEST_HEAD = 8192
"""Bytes of a reply that show whose it is."""

HTTP_MULTIPLE_CHOICES = 300
HTTP_BAD_REQUEST = 400
HTTP_UNAUTHORIZED = 401
HTTP_FORBIDDEN = 403
HTTP_NOT_FOUND = 404
HTTP_PROXY_AUTHENTICATION = 407
HTTP_REQUEST_TIMEOUT = 408
HTTP_CONFLICT = 409
HTTP_GONE = 410
HTTP_UNPROCESSABLE = 422
HTTP_TOO_EARLY = 425
HTTP_TOO_MANY_REQUESTS = 429
HTTP_SERVER_ERROR = 500


class Lane(StrEnum):
    """What a request is for, see :mod:`async_triggers.engine.limiter`."""

    SHARED = "shared"
    """A list or a feed that answers for many jobs: goes first."""
    POLL = "poll"
    """A question of the poller about one job."""
    LOOK = "look"
    """A single question of a task or a trigger, or one that confirms an end."""
    START = "start"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, before anything has happened.

    ``path`` begins with a slash and goes behind the account's base URL; an absolute URL
    is used as it is. Everything in it is quoted already, see :func:`.segment`. ``about``
    says in words what is requested, for messages and logs. ``timeout`` bounds the whole
    exchange in seconds; None takes the account's. ``typed_in`` is the connection's field
    that the address comes from. ``note`` is the vendor's own: it comes back to
    :meth:`Vendor.read` untouched.
    """

    method: str
    path: str
    about: str
    params: tuple[tuple[str, str], ...] = ()
    # A request for a token holds a secret.
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    lane: Lane = Lane.LOOK
    timeout: float | None = None
    authorized: bool = True
    typed_in: str = "host"
    note: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. Header names are lower case.

    ``url`` is what was requested, without its query. ``is_of_proxy`` says that a proxy was
    to connect to the host, and has not. ``repr`` shows the status alone: the body may be an
    access token.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str = field(default="", repr=False)
    is_of_proxy: bool = field(default=False, repr=False)

    @property
    def date(self) -> float | None:
        """The server's own time in epoch seconds, from the ``Date`` header."""
        return parse_http_date(self.headers.get("date"))

    def json(self, about: str) -> Any:
        """Decode the body, or raise :class:`UnreadableReply` that names ``about``."""
        try:
            return decode(self.body)
        except NotJsonError as error:
            why = str(error)

        kind = self.headers.get("content-type", "no content type")[:80]
        msg = (
            f"The response for {about} is not JSON"
            f" ({kind}, {len(self.body)} bytes): {why}"
        )
        raise self.unreadable(msg)

    def unreadable(self, message: str) -> UnreadableReply:
        """Return the error for a success that is none of the vendor's."""
        error = UnreadableReply(message, status=self.status)
        error.url = self.url
        if is_web_page(self):
            error.suspect = Suspect(
                "host",
                "there is a web page, not the API: enter the API's address",
                is_path=True,
            )

        return error

    def object(self, about: str) -> dict[str, Any]:
        """Decode the body as a JSON object, or raise :class:`UnreadableReply`."""
        value = self.json(about)
        if not isinstance(value, dict):
            msg = f"The response for {about} is not a JSON object"
            raise UnreadableReply(msg, status=self.status)

        return value


def is_web_page(reply: Reply) -> bool:
    """Return True if a reply is a page for people and not an answer of an API."""
    if "html" in reply.headers.get("content-type", "").lower():
        return True

    return reply.body[:100].lstrip().startswith(b"<")


def _fingerprint(*parts: str) -> str:
    text = "\0".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class CredentialKind(StrEnum):
    """How requests prove who they come from."""

    CLIENT_CREDENTIALS = "client credentials"
    BEARER = "bearer token"
    BASIC = "basic"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who we are to the vendor. ``repr`` shows the kind alone."""

    kind: CredentialKind
    login: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token_url: str = field(default="", repr=False)

    @property
    def fingerprint(self) -> str:
        """A short hash that differs between credentials and gives none away."""
        return _fingerprint(self.kind, self.login, self.secret, self.token_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How to get to the vendor.

    ``proxies`` maps ``http`` and ``https`` to a proxy URL and wins over the environment.
    ``verify`` False switches the check of TLS certificates off; ``ca_bundle`` names a
    file of further trusted certificates. The timeouts are in seconds: ``total`` for one
    exchange, ``connect`` for reaching the host, ``read`` between two pieces of an answer.
    """

    proxies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    verify: bool = True
    ca_bundle: str = ""
    total: float = 60.0
    connect: float = 10.0
    read: float = 30.0

    @property
    def fingerprint(self) -> str:
        """A short hash of the way, which gives a proxy's password not away."""
        way = [part for pair in self.proxies for part in pair]
        return _fingerprint(str(self.verify), self.ca_bundle, *way)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many requests one process may send to one account.

    ``requests`` in ``per`` seconds is the vendor's limit, or ours where it names none, and
    ``share`` the part of it that we take. ``polls``, ``starts`` and ``cancels`` say how
    many may be under way at once. ``cooldown`` is how many seconds a 429 without a time
    pauses the account. ``spare`` is the part for polls ``fastest`` seconds apart at least.
    """

    requests: int
    per: float
    share: float = 0.6
    polls: int = 8
    starts: int = 2
    cancels: int = 2
    cooldown: float = 60.0
    spare: float = 0.0
    fastest: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """How long refusals must last before they end a wait, in seconds.

    ``doubt`` is for the vendor's own refusal of what it has allowed before,
    ``in_between`` for refusals by something on the way (0: never), ``first_contact`` for
    evidence of a wrong field before the first good answer.
    """

    doubt: float = 300.0
    in_between: float = 21_600.0
    first_contact: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account of one vendor, as a connection describes it.

    ``is_always_https`` is True where http is used only with ``extra.insecure_http``.
    ``host_is_typed`` is False where the host is the vendor's own default, which no
    user can have misspelt.
    """

    vendor: str
    base_url: str
    credentials: Credentials
    account_id: str = ""
    ui_url: str = ""
    host_is_typed: bool = True
    is_always_https: bool = False
    route: Route = field(default_factory=Route)
    belief: Belief = field(default_factory=Belief)
    budget: Budget
    identity: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """What makes two connections the same account; names play no part."""

    def __post_init__(self) -> None:
        """Work the identity out once: every trigger of the account needs it."""
        identity = (
            self.vendor,
            self.base_url,
            self.account_id,
            self.credentials.fingerprint,
            self.route.fingerprint,
        )
        object.__setattr__(self, "identity", identity)

    def is_typed(self, field_name: str) -> bool:
        """Return True if a user has typed the field of the connection with this name."""
        match field_name:
            case "host":
                return self.host_is_typed
            case "extra.proxies":
                return bool(self.route.proxies)

        return True

    def __str__(self) -> str:
        """Name the account without anything secret."""
        # No link: it stands within sentences.
        return f"{self.vendor} at {without_secrets(self.base_url).partition('://')[2]}"

    def __repr__(self) -> str:
        """Name the account without anything secret."""
        return f"<Account {self} {self.account_id or '-'} [{self.credentials.kind}]>"


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and how many seconds it lives."""

    value: str = field(repr=False)
    lifetime: float


class SourceKind(StrEnum):
    """The ways in which one request can answer for many jobs."""

    FEED = "feed"
    """Shows what changed since a server time: absence means no change, if it is sound."""
    IDS = "ids"
    """Shows the rows of the ids that are requested."""
    LIST = "list"
    """Shows everything there is, page by page."""
    LIVE = "live"
    """Shows everything that has not ended, page by page: good for sweeps alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A way to learn the state of many jobs; single requests are always possible besides.

    ``page`` is how many rows a reply holds at most. ``scoped`` lists request one group of
    jobs at a time. ``omits`` are the terminal states that a feed is known not to show. A
    feed with ``parts`` is walked over once for each of them. ``ends_only`` marks a feed
    that shows jobs when they end and not when they start.
    """

    name: str
    kind: SourceKind
    page: int
    scoped: bool = False
    omits: frozenset[str] = frozenset()
    parts: tuple[str, ...] = ()
    ends_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one reply of a source held.

    ``rows`` by subject; ``count`` is the number of rows with repeats. ``next`` requests
    the page that follows, None after the last. ``resume`` is the server time at which the
    next window of a feed may begin, the overlap already taken off. ``sound`` is False
    when the rows show that the server ignored a filter.
    The engine takes no ``resume`` past the ``Date`` of a walk's first reply less the
    overlap.
    """

    rows: Mapping[str, Row]
    count: int
    next: Request | None = None
    resume: float | None = None
    sound: bool = True


class Vendor(Protocol):
    """All that the engine must know of a vendor. Implementations do no I/O.

    A subclass must have ``name``, :meth:`is_own_refusal`, :meth:`is_own_answer`,
    :meth:`single`, :meth:`read` and :meth:`judge`. The rest has defaults, by which each job
    is polled singly.
    """

    name: str
    noun: str = "job"
    """What the vendor calls a job: job, run, sync."""
    grid_floor: float = 5.0
    """The shortest interval in seconds at which the vendor may be polled."""
    overlap: float = 0.0
    """Seconds by which the window of a feed begins before the last look."""
    sources: Sequence[Source] = ()
    """The ways to request many jobs at once, the preferred one first."""
    end_fields: Sequence[str] = ()
    """The fields that say which ends a row shows, for who watches; () to read each row."""

    def name_of(self, job_id: str) -> str:
        """Name a job within a sentence, by its id or by what the poller requests."""
        return f"{self.noun} {job_id}"

    def token_request(self, account: Account) -> Request | None:
        """Request an access token, or None where the credentials are sent as they are."""
        return None

    def read_token(self, reply: Reply) -> Token:
        """Read the access token."""
        msg = f"{self.name} issues no tokens"
        raise NotImplementedError(msg)

    def authorize(self, account: Account, token: Token | None) -> Mapping[str, str]:
        """Give the headers that prove who we are; by default in the usual ways of HTTP."""
        credentials = account.credentials
        match credentials.kind:
            case CredentialKind.CLIENT_CREDENTIALS:
                return {"Authorization": f"Bearer {token.value}"} if token else {}
            case CredentialKind.BEARER:
                return {"Authorization": f"Bearer {credentials.secret}"}
            case CredentialKind.BASIC:
                proof = basic_auth(credentials.login, credentials.secret)
                return {"Authorization": proof}
            case CredentialKind.NONE:
                return {}

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        """Return True if a reply of 3xx or 4xx has the shape of the vendor's refusals.

        The body alone decides. What looks like an answer of the vendor and is not would
        end waiting for good; what is not recognised is only waited out.
        """

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        """Return True if a success looks like the vendor's, from its first kilobytes.

        Proxies answer 200 as well. One that is not recognised proves nothing by itself;
        what :meth:`read` has read does.
        """

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        """Map a refusal of the vendor's own, a 429 or a 5xx to an error.

        Called by :func:`async_triggers.engine.answers.classify` alone. By default the
        status decides.
        """
        return refuse_by_status(self.name, request, reply)

    def remaining(self, reply: Reply) -> tuple[float, float] | None:
        """Return (requests left, requests allowed) where the reply shows them."""
        return None

    def single(self, account: Account, subject: str) -> Request:
        """Request one job."""

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        """Request ids from a source, changes since a server time, or a list.

        ``scope`` is the group of a scoped list, or the part of a feed that has parts.
        """
        msg = f"{self.name} has no source {source.name!r}"
        raise NotImplementedError(msg)

    def read(self, request: Request, reply: Reply) -> Page:
        """Read the rows of a reply to :meth:`single` or :meth:`many`."""

    def judge(self, account: Account, subject: str, row: Row, mark: str | None) -> Job:
        """Read from a row what a waiter's job is doing.

        ``mark`` is what the waiter knew before the job started, for vendors whose rows
        speak of a connection and not of a job. Raise
        :class:`~async_triggers.engine.errors.UnreadableRow` for a row that lacks what it
        must have.
        """

    def digest(self, row: Row) -> int | None:
        """Return a hash of all in a row that a job which goes on is judged by.

        A row with the digest of the one before it is not judged again. None where it
        must be: because its job may have ended, or needs attention after some time.
        """
        return None

    def scope_of(self, row: Row) -> str:
        """Name the group that a row belongs to, empty where lists are not scoped."""
        return ""

    def needs_confirmation(self, job: Job) -> bool:
        """Return whether a terminal state that a list showed must be requested singly."""
        return False

    def confirmation(self, job: Job, *, now: float | None) -> Request | None:
        """Request what confirms an end that a list showed, and shows the rest of it.

        ``now`` is the server's time in epoch seconds. None where nothing does both: then
        it is requested with :meth:`single`.
        """
        return None

    def confirmed(self, request: Request, reply: Reply, job: Job) -> Job | None:
        """Return the job with what that answer shows, None where it does not confirm it."""
        return None

    def watched(self, request: Request) -> Request:
        """Add to the first request of :meth:`many` what only those need who watch."""
        return request

    def places(self, row: Row) -> Sequence[Place]:
        """Return where the job of a row belongs, as :class:`.watch.Watch` names places."""
        return ()

    def ends(self, account: Account, row: Row) -> Sequence[End]:
        """Return the ends that a row shows, of one key and in order; by default one."""
        job = self.judge(account, "", row, None)
        if not job.state.is_terminal or job.ended_at is None:
            return ()

        return (End(key=job.id, at=job.ended_at, job=job),)

    def rest_of(
        self, account: Account, ends: Sequence[End], *, since: float, now: float | None
    ) -> Request | None:
        """Request what a row does not say of its ends; None where it says all.

        ``since`` is the server's time, in epoch seconds, after which an end is news, and
        ``now`` the server's present time.
        """
        return None

    def read_rest(
        self, account: Account, reply: Reply, request: Request, ends: Sequence[End]
    ) -> Sequence[End]:
        """Return the ends with what that answer says, and those that no row showed."""
        return ends


def basic_auth(login: str, password: str) -> str:
    """Return the value of an ``Authorization`` header (RFC 7617)."""
    return "Basic " + b64encode(f"{login}:{password}".encode()).decode()


def without_secrets(url: str) -> str:
    """Return a URL without the parts that are no address: user, query, fragment."""
    return _USER_INFO.sub("//", url.partition("#")[0].partition("?")[0])


def words_of(value: object, *, longest: int = LONGEST_DETAIL) -> str:
    """Return a vendor's own words as far as they are repeated.

    Empty for what is no text and no number: an object in a sentence helps no reader.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""

    # PostgreSQL's JSON takes no NUL, and what is kept goes to Airflow's database.
    return str(value)[:longest].replace("\0", "")


def short_text(value: object) -> str | None:
    """Return a text of a row, cut where it is longer than it should ever be.

    None for what is no text.
    """
    if not isinstance(value, str):
        return None

    # Called for many texts of many rows, of which hardly any is odd.
    if len(value) <= LONGEST_DETAIL and "\0" not in value:
        return value

    return words_of(value)


def text_of(value: object) -> str | None:
    """Return a text as it is, None for what is no text."""
    return value if isinstance(value, str) else None


def number_of(value: object) -> int | None:
    """Return a whole number, None for what is none. True and False are no numbers."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def rows_of(value: object) -> list[Row] | None:
    """Return a list of objects, None for what is no such list."""
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value

    return None


def readable(rows: Iterable[Row], read: Callable[[Row], T]) -> list[tuple[T, Row]]:
    """Return what ``read`` makes of the rows of a list, each with its row.

    One bad row keeps no other from being read. Raise
    :class:`~async_triggers.engine.errors.UnreadableRow` where all of them are bad.
    """
    found: list[tuple[T, Row]] = []
    bad: UnreadableRow | None = None
    for row in rows:
        try:
            found.append((read(row), row))
        except UnreadableRow as error:
            bad = error

    if bad is not None and not found:
        raise bad

    return found


def rows_by_id(rows: Iterable[Row], read_id: Callable[[Row], str]) -> dict[str, Row]:
    """Return the rows of a list by their ids, as :func:`readable` does."""
    return dict(readable(rows, read_id))


def retry_after(reply: Reply) -> float | None:
    """Read ``Retry-After`` as seconds, from either of its forms (RFC 9110, 10.2.3).

    A 429 may require a day. Anything else is an outage, whose end no server knows.
    """
    is_limit = reply.status == HTTP_TOO_MANY_REQUESTS
    longest = LONGEST_PAUSE if is_limit else LONGEST_OUTAGE
    value = reply.headers.get("retry-after", "").strip()
    if not value:
        return None

    try:
        return max(0.0, min(float(value), longest))
    except ValueError:
        pass

    when, now = parse_http_date(value), reply.date
    if when is None or now is None:
        return None

    return max(0.0, min(when - now, longest))


def refuse_by_status(
    vendor: str, request: Request, reply: Reply, detail: str = ""
) -> EngineError:
    """Map the HTTP status of a vendor's own refusal to an error, by the status alone.

    ``detail`` is the vendor's own explanation.
    """
    status = reply.status
    reason = f": {detail[:LONGEST_DETAIL]}" if detail else ""
    if status == HTTP_TOO_MANY_REQUESTS:
        return RateLimited(
            f"{vendor} answered 429, too many requests{reason}",
            status=status,
            retry_after=retry_after(reply),
        )

    if status >= HTTP_SERVER_ERROR:
        return VendorBroken(
            f"{vendor} returned {status} for {request.about}{reason}",
            status=status,
            retry_after=retry_after(reply),
            ambiguous=True,
        )

    if status == HTTP_UNAUTHORIZED:
        return CredentialsRejected(
            f"{vendor} rejected the credentials{reason}", status=status
        )

    if status in {HTTP_NOT_FOUND, HTTP_GONE}:
        return JobNotFound(
            f"{vendor} does not know {request.about}{reason}", status=status
        )

    return RequestRejected(
        f"{vendor} rejected {request.about} with {status}{reason}", status=status
    )
