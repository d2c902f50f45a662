"""Request in, reply out.

A :class:`Transport` belongs to one account and one event loop. It waits for the limiter
before anything leaves, proves who we are, and decides what each answer is worth; its
:class:`~async_triggers.engine.http.HttpSession` speaks HTTP. Nothing goes round it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from async_triggers.engine.answers import classify
from async_triggers.engine.doubt import Trust
from async_triggers.engine.errors import (
    AccountMisconfigured,
    CredentialsRejected,
    EngineError,
    InBetween,
    PermanentError,
    RateLimited,
    Scope,
    Suspect,
    TransientError,
    Unreachable,
)
from async_triggers.engine.http import HttpSession
from async_triggers.engine.limiter import START_PATIENCE, TurnedAway, is_urgent
from async_triggers.engine.masking import repetition_of
from async_triggers.engine.observer import RATE_LIMITED, REQUESTS, Tally
from async_triggers.engine.wire import (
    HTTP_FORBIDDEN,
    HTTP_MULTIPLE_CHOICES,
    HTTP_PROXY_AUTHENTICATION,
    HTTP_UNAUTHORIZED,
    Lane,
    Reply,
)

if TYPE_CHECKING:
    from async_triggers.engine.limiter import Limiter
    from async_triggers.engine.wire import Account, Request, Token, Vendor

log = logging.getLogger(__name__)

TOKEN_MARGIN = 0.2
"""A token is renewed when this part of its life is left, at most a minute."""
SHORTEST_SECRET = 4
"""Characters of a secret below which it would be found in any sentence."""
LONGEST_REFUSAL = 256 * 1024
"""Bytes of a refusal that are searched for secrets, and that its error is made of."""

TOKEN_RENEWAL = 50.0
"""Seconds at least between two tokens that are fetched because one was rejected."""

HTTP_OK = 200
_ANY = ("utf-8", "surrogateescape")
"""How a header's value is encoded, also where its bytes are no text."""
_OF_CREDENTIALS = frozenset(
    {HTTP_UNAUTHORIZED, HTTP_FORBIDDEN, HTTP_PROXY_AUTHENTICATION}
)
"""What another connection's credentials may be the answer to."""


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """A snapshot of a transport."""

    requests: int
    failures: int
    received_bytes: int
    connections: int
    tokens: int
    doubt: str
    in_between_for: float


class Transport:
    """Carries the requests of one account.

    ``on_refusal`` is awaited when the vendor, or something on the way, does not accept
    the account, before that is raised: the Airflow connection may have changed. ``tally``
    is where requests are counted.
    """

    def __init__(
        self,
        vendor: Vendor,
        account: Account,
        limiter: Limiter,
        *,
        on_refusal: Callable[[], Awaitable[None]] | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.vendor = vendor
        self.account = account
        self.limiter = limiter
        self.trust = Trust(account.belief)
        self.http = HttpSession(account)
        self.tally = Tally() if tally is None else tally
        self._on_refusal = on_refusal
        self._proving = asyncio.Lock()
        self._proving_urgently = asyncio.Lock()
        self._token: Token | None = None
        self._token_ends = 0.0
        self._proof = 0
        # The proof is newer than the last rejection and has not been accepted yet.
        self._untried = False
        self._renewed_at = -math.inf
        self._requests = 0
        self._failures = 0
        self._tokens = 0

    def __repr__(self) -> str:
        """Return the state, and no secret."""
        state = "open" if self.http.is_open else "idle"
        doubt = f" | {self.trust.doubt!r}" if self.trust.doubt is not None else ""
        between = self.trust.between
        if between is not None:
            doubt += f" | in between: {between.message}"

        return (
            f"<Transport {self.account} [{state} | {self._requests} requests,"
            f" {self._failures} failed, {self.http.connections} connections{doubt}]>"
        )

    def statistics(self) -> TransportStatistics:
        """Return a snapshot."""
        doubt = self.trust.doubt
        between = 0.0
        if self.trust.between is not None:
            between = asyncio.get_running_loop().time() - self.trust.between_since

        return TransportStatistics(
            requests=self._requests,
            failures=self._failures,
            received_bytes=self.http.received,
            connections=self.http.connections,
            tokens=self._tokens,
            doubt="" if doubt is None else doubt.refusal.message,
            in_between_for=between,
        )

    async def send(self, request: Request, *, lane: Lane | None = None) -> Reply:
        """Send a request and return a successful reply.

        ``lane`` wins over the request's own. Raise
        :class:`~async_triggers.engine.errors.TransientError` when no usable answer came or
        a refusal is in doubt, :class:`~async_triggers.engine.errors.PermanentError` when
        the vendor's answer is a refusal that will stand.
        """
        lane = request.lane if lane is None else lane
        if not request.authorized:
            return await self._exchange(request, {}, lane)

        loop = asyncio.get_running_loop()
        is_check = self.trust.admit(loop.time(), is_start=lane is Lane.START)
        try:
            reply = await self._prove_and_exchange(request, lane)
        except EngineError as error:
            failure = await self._weigh(error, is_check=is_check)
        else:
            if self.vendor.is_own_answer(request, reply):
                self.trust.answered()
            else:
                # Who reads it may yet find it sound, and says so then.
                foreign = reply.unreadable(
                    f"The response for {request.about} is foreign"
                )
                await self._weigh(foreign, is_check=is_check)

            return reply
        finally:
            if is_check:
                self.trust.check_ended(loop.time())

        raise failure

    async def _weigh(self, error: EngineError, *, is_check: bool) -> EngineError:
        """Take in what a failure says about the account; return what to raise for it."""
        trust, loop = self.trust, asyncio.get_running_loop()
        suspect = error.suspect
        if suspect is not None and not self.account.is_typed(suspect.field):
            # The vendor's own host is right, no matter what answers there, and the
            # environment's proxy is not the connection's.
            error.suspect = None

        if isinstance(error, InBetween):
            if error.status in _OF_CREDENTIALS:
                await self.read_connections_again()

            return trust.refused_in_between(error, loop.time(), self.vendor.name)

        if isinstance(error, RateLimited):
            trust.rate_limited()
        elif isinstance(error, TransientError):
            trust.missed(error, loop.time())
        elif error.status is None:
            # The request could not even be made: that needs no second opinion.
            return error
        elif isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
            await self.read_connections_again()
            return trust.refused(error, loop.time(), is_check=is_check)
        else:
            # The refusal of one job is an answer to who may request it.
            trust.answered()

        return error

    @property
    def seconds_to_check(self) -> float:
        """In how many seconds a doubt about the account may be checked; 0 without one.

        A check that is due waits for the end of a pause of the account, which may last for
        a day.
        """
        doubt = self.trust.doubt
        if doubt is None:
            return 0.0

        left = doubt.next_check - asyncio.get_running_loop().time()
        return max(0.0, left, self.limiter.paused_for)

    async def read_connections_again(self) -> None:
        """Read the Airflow connections again: they may lead elsewhere by now."""
        if self._on_refusal is not None:
            await self._on_refusal()

    async def _prove_and_exchange(self, request: Request, lane: Lane) -> Reply:
        """Send a request with a proof of who we are, which is renewed once."""
        # At most: as it is, with a new token, and once for a bystander whose proof
        # others have renewed meanwhile.
        attempts = 3
        loop = asyncio.get_running_loop()
        while True:
            attempts -= 1
            began = loop.time()
            proof, headers = await self._prove()
            took = loop.time() - began
            if lane is Lane.START and took > START_PATIENCE:
                # What was read before it is old.
                raise Unreachable(
                    f"{self.account} gave no token within {START_PATIENCE:.0f} s: the"
                    " start was not sent"
                )

            try:
                reply = await self._exchange(request, headers, lane)
            except (CredentialsRejected, InBetween) as error:
                # The body does not matter: an old server's differs from today's.
                if (
                    error.status != HTTP_UNAUTHORIZED
                    or not await self._renew(proof)
                    or not attempts
                ):
                    raise

                if request.lane is Lane.START and isinstance(error, InBetween):
                    # It may have got through, and is looked for before it is sent again.
                    raise
            else:
                if proof == self._proof:
                    self._untried = False

                return reply

    async def close(self) -> None:
        """Close the connections. The transport opens new ones if it is used again."""
        await self.http.close()

    # Who we are ---------------------------------------------------------------

    async def _prove(self) -> tuple[int, Mapping[str, str]]:
        """Return the headers that prove who we are, and the number of that proof."""
        loop = asyncio.get_running_loop()
        async with self._turn_to_prove():
            wanted = self.vendor.token_request(self.account)
            if wanted is not None and loop.time() >= self._token_ends:
                await self._fetch_token(wanted)

            return self._proof, self.vendor.authorize(self.account, self._token)

    def _turn_to_prove(self) -> asyncio.Lock:
        """Return what keeps others from fetching a token at the same time.

        Who fetches one may wait for an hour for a pause to end. What is urgent may not.
        """
        if is_urgent() and self.limiter.paused_for:
            return self._proving_urgently

        return self._proving

    async def _fetch_token(self, request: Request) -> None:
        try:
            reply = await self._exchange(request, {}, request.lane)
            self._token = self.vendor.read_token(reply)
        except EngineError as error:
            error.suspect = self._suspect_of_token(request, error.suspect)
            if not isinstance(error, PermanentError) or error.scope is Scope.ACCOUNT:
                raise

            # A refusal of the token endpoint is about the account, never about a job.
            failure = AccountMisconfigured(error.message, status=error.status)
            failure.url, failure.suspect = error.url, error.suspect
            raise failure from None

        lifetime = self._token.lifetime
        margin = min(60.0, lifetime * TOKEN_MARGIN)
        self._token_ends = asyncio.get_running_loop().time() + lifetime - margin
        self._proof += 1
        self._tokens += 1

    def _suspect_of_token(
        self, request: Request, suspect: Suspect | None
    ) -> Suspect | None:
        """Return which field a failure of the token endpoint speaks against.

        Where the endpoint is on the API's server, the field holds no more than its path.
        """
        if suspect is None or suspect.field != "host" or request.typed_in == "host":
            return suspect

        if suspect.is_path:
            fix = "there is no token endpoint: enter its URL, or leave this field empty"
            return Suspect(request.typed_in, fix)

        there, here = urlsplit(request.path), urlsplit(self.account.base_url)
        if there[:2] == here[:2]:
            return suspect

        return replace(suspect, field=request.typed_in)

    async def _renew(self, proof: int) -> bool:
        """Take back the token of proof number ``proof``; False where that is no use.

        A token that was fetched after the last rejection is given a minute: each try
        costs a request to an endpoint that locks clients out.
        """
        async with self._turn_to_prove():
            if proof != self._proof:
                return True

            now = asyncio.get_running_loop().time()
            if self._token is None or (
                self._untried and now < self._renewed_at + TOKEN_RENEWAL
            ):
                return False

            self._token = None
            self._token_ends = 0.0
            self._proof += 1
            self._untried = True
            self._renewed_at = now
            return True

    # The wire -----------------------------------------------------------------

    async def _exchange(
        self, request: Request, proof: Mapping[str, str], lane: Lane
    ) -> Reply:
        try:
            async with self.limiter.admit(lane):
                self._requests += 1
                try:
                    reply = await self.http.exchange(request, proof)
                except EngineError:
                    self._failures += 1
                    self.tally.count(REQUESTS, lane, "no_answer")
                    raise
        except TurnedAway as turned:
            raise RateLimited.in_pause(self.account, turned.seconds) from None

        self.tally.count(REQUESTS, lane, str(reply.status))
        left = self.vendor.remaining(reply)
        if left is not None:
            self.limiter.observe(*left)

        if HTTP_OK <= reply.status < HTTP_MULTIPLE_CHOICES:
            return reply

        self._failures += 1
        masked = self._masked(reply, proof)
        error = classify(
            self.vendor,
            request,
            reply,
            masked=masked,
            is_always_https=self.account.is_always_https,
        )
        error.url = reply.url
        if isinstance(error, RateLimited):
            self.tally.count(RATE_LIMITED)
            # A wait of no seconds, or until a time that has passed, is none.
            if not error.retry_after:
                error.retry_after = self.account.budget.cooldown
                error.is_guess = True

        if isinstance(error, TransientError) and error.retry_after is not None:
            self.limiter.pause(error.retry_after)

        raise error

    def _masked(self, reply: Reply, proof: Mapping[str, str]) -> Reply:
        """Take out of a refusal what we had sent."""
        credentials = self.account.credentials
        sent = {header.rpartition(" ")[2] for header in proof.values()}
        sent |= {credentials.secret, credentials.login}
        if self._token is not None:
            sent.add(self._token.value)

        body, headers = reply.body[:LONGEST_REFUSAL], dict(reply.headers)
        for secret in sorted(sent, key=len, reverse=True):
            if len(secret) < SHORTEST_SECRET:
                continue

            repeated = repetition_of(secret)
            body = repeated.sub(b"***", body)
            headers = {
                name: repeated.sub(b"***", value.encode(*_ANY)).decode(*_ANY)
                for name, value in headers.items()
            }

        return replace(reply, body=body, headers=MappingProxyType(headers))
