"""The questions whose answers are cached: dbt's sources, and a vendor's connections."""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral.compat import AirflowException, AirflowNotFoundException
from async_triggers.deferral.errors import VendorUnavailable
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.generators import dbt as dbt_module
from async_triggers.generators.catalogue import airbyte_loaders, fivetran_loaders
from async_triggers.generators.errors import OutOfReach, TookTooLong, Unanswered
from async_triggers.generators.model import Loader, sources_to_json

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount

T = TypeVar("T")


class Question(ABC):
    """What to fetch, and what makes two of them the same."""

    __slots__ = ()

    kind: ClassVar[str]
    outlives_change: ClassVar[bool]
    """Whether an answer is still good when what it depends on has changed, and the
    question has no answer."""

    @property
    def key(self) -> str:
        """A name for the question, fit for a file."""
        return f"{self.kind}-{_hash(json.dumps(self.to_json(), sort_keys=True))}"

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Write the question as plain values."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return what stands for the state of all that the answer depends on.

        Raise :class:`Unanswered` where that is not known.
        """

    def prepare(self, scratch: Path, seconds: float) -> str:
        """Prepare the fetch; return the fingerprint if it may have changed."""
        return ""

    @abstractmethod
    def fetch(self, scratch: Path, seconds: float) -> Any:
        """Return the answer as plain values; raise :class:`Unanswered`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtQuestion(Question):
    """Which sources dbt lists in a project.

    ``environment`` stands for what distinguishes the deployments of the project; the
    answer for one is never taken for another's.
    """

    kind: ClassVar[str] = "dbt"
    outlives_change: ClassVar[bool] = True

    project: str
    dbt: str
    arguments: tuple[str, ...]
    run_deps: bool
    environment: str = ""
    content: str = field(default="", compare=False, repr=False)
    """What the fingerprint was a moment ago, for a question that was made just now."""

    @classmethod
    def of(
        cls, *, project: Path, dbt: str, arguments: tuple[str, ...], run_deps: bool
    ) -> Self:
        """Return the question about a project as it is now, from the current directory."""
        survey = dbt_module.survey(project, dbt, arguments)
        return cls(
            project=str(project),
            dbt=dbt,
            arguments=arguments,
            run_deps=run_deps,
            environment=survey.environment,
            content=survey.content,
        )

    def to_json(self) -> dict[str, Any]:
        """Write the question as plain values."""
        return {key: value for key, value in asdict(self).items() if key != "content"}

    def fingerprint(self) -> str:
        """Return a hash of the project's content."""
        return self.content or self._content_now()

    def prepare(self, scratch: Path, seconds: float) -> str:
        """Install the project's packages where that is wanted."""
        if not self.run_deps:
            return ""

        dbt_module.install_packages(
            self.dbt, Path(self.project), scratch=scratch, seconds=seconds
        )
        return self._content_now()

    def fetch(self, scratch: Path, seconds: float) -> Any:
        """Run dbt."""
        found = dbt_module.list_sources(
            self.dbt,
            Path(self.project),
            self.arguments,
            scratch=scratch,
            run_deps=False,
            seconds=seconds,
        )
        return sources_to_json(found)

    def _content_now(self) -> str:
        return dbt_module.fingerprint(Path(self.project), self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryQuestion(Question):
    """Which connections a vendor's account has, and what they load.

    ``databases`` are those whose tables are wanted, None for no tables at all; Airbyte
    shows all tables anyway.
    """

    kind: ClassVar[str] = "inventory"
    outlives_change: ClassVar[bool] = False

    vendor: str
    conn_id: str
    databases: tuple[str, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Write the question as plain values."""
        return asdict(self)

    def fingerprint(self) -> str:
        """Return a hash that stands for the account that the connection leads to."""
        try:
            identity = self.hook.account().identity
        except AirflowNotFoundException:
            # Airflow says so too when it could not look.
            msg = (
                f"the Airflow connection {self.conn_id!r} was not found: make it, or"
                " correct airflow_connection_id"
            )
            raise OutOfReach(msg) from None
        except AirflowException as error:
            raise Unanswered(str(error)) from None

        return _hash(json.dumps(identity))

    def fetch(self, scratch: Path, seconds: float) -> Any:
        """Request them from the vendor."""
        hook = self.hook

        async def request(leased: LeasedAccount) -> Sequence[Loader]:
            if isinstance(hook, AirbyteHook):
                return await airbyte_loaders(hook, leased)

            return await fivetran_loaders(hook, leased, self.databases)

        try:
            found = hook.run(_within(seconds, request))
        except TimeoutError:
            msg = f"{self.vendor} did not list all connections in {seconds:.0f} s"
            raise TookTooLong(msg) from None
        except VendorUnavailable as error:
            raise OutOfReach(str(error)) from None
        except AirflowException as error:
            raise Unanswered(str(error)) from None

        return [each.to_json() for each in found]

    @property
    def hook(self) -> AirbyteHook | FivetranHook:
        """The hook of the connection."""
        if self.vendor == "airbyte":
            return AirbyteHook(self.conn_id)

        return FivetranHook(self.conn_id)


def question_from_json(kind: str, values: Mapping[str, Any]) -> Question:
    """Read what :meth:`Question.to_json` wrote."""
    read: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
    }
    if kind == DbtQuestion.kind:
        return DbtQuestion(**read)

    return InventoryQuestion(**read)


def _within(
    seconds: float, request: Callable[[LeasedAccount], Awaitable[T]]
) -> Callable[[LeasedAccount], Awaitable[T]]:
    async def limited(leased: LeasedAccount) -> T:
        async with asyncio.timeout(seconds):
            return await request(leased)

    return limited


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
