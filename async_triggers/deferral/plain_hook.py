"""The hook of a vendor with one address and one key: no more than its names to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from async_triggers.deferral.connection import (
    EXTRA_KEYS,
    read_belief,
    read_budget,
    read_extra,
    read_route,
)
from async_triggers.deferral.fields import plain_field, read_flag, secret_field
from async_triggers.deferral.finding import Identity
from async_triggers.deferral.hook import VendorHook
from async_triggers.engine.address import read_https_address
from async_triggers.engine.errors import AccountMisconfigured
from async_triggers.engine.wire import Account, CredentialKind, Credentials
from async_triggers.provider_info import register_form

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Budget, Request


class PlainHook(VendorHook):
    """Reads a connection whose password is a key, or belongs to the login.

    ``host`` may be empty where the vendor has an address that all its users share.

    :param conn_id: the Airflow connection
    """

    default_conn_name: ClassVar[str]
    hook_name: ClassVar[str]
    form: ClassVar[Mapping[str, Any]]
    """The form of its connections, see :func:`async_triggers.provider_info.vendor_form`."""
    budget: ClassVar[Budget]
    """How much may be requested unless the connection says otherwise."""
    probe: ClassVar[Request]
    """Something small that every key may request, for the Test button."""
    credential_kind: ClassVar[CredentialKind] = CredentialKind.BEARER
    """How the password is sent: as a token, or with the login (BASIC)."""
    base_url: ClassVar[str] = ""
    """The address that all its users share, without a slash at its end."""

    conn_name_attr = "conn_id"
    is_always_https = True
    extra_keys = EXTRA_KEYS | {"insecure_http"}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let messages name the fields of a connection as its form does."""
        super().__init_subclass__(**kwargs)
        if "form" in vars(cls):
            register_form(cls.form)

    def __init__(self, conn_id: str = "") -> None:
        super().__init__(conn_id or self.default_conn_name)

    def read(self, connection: Connection) -> Account:
        """Turn a connection into an account.

        ``extra`` may hold what :data:`.connection.EXTRA_KEYS` names, and ``insecure_http``:
        true sends the key unencrypted where ``host`` or ``schema`` says http.
        """
        extra = read_extra(connection)
        base = self._base_url(connection, extra) or self.base_url
        if not base:
            msg = "host is empty: set it to the API's address, such as https://host"
            raise AccountMisconfigured(msg)

        return Account(
            vendor=self.vendor.name,
            base_url=base,
            host_is_typed=base != self.base_url,
            credentials=self.read_credentials(connection),
            belief=read_belief(extra),
            route=read_route(extra, total=60.0),
            budget=read_budget(extra, self.budget, self.conn_type),
        )

    def _base_url(self, connection: Connection, extra: Mapping[str, Any]) -> str:
        host = plain_field(connection.host).rstrip("/")
        if not host:
            return ""

        is_http = plain_field(connection.schema).lower() == "http"
        address = read_https_address(
            host,
            port=connection.port,
            scheme="http" if is_http else "https",
            insecure=read_flag(extra, "insecure_http", default=False),
            credentials="put them into login and password",
            form="host is not a URL: write it as https://host",
        )
        return address.origin + address.path

    def read_credentials(self, connection: Connection) -> Credentials:
        """Return what proves who calls, or raise AccountMisconfigured."""
        needs_login = self.credential_kind is CredentialKind.BASIC
        login = plain_field(connection.login) if needs_login else ""
        password = secret_field(connection.password)
        missing = "login" if needs_login and not login else "password"
        if not password or (needs_login and not login):
            msg = f"{missing} is empty: set it in the connection"
            raise AccountMisconfigured(msg)

        return Credentials(kind=self.credential_kind, login=login, secret=password)

    async def identify(self, leased: LeasedAccount) -> Identity:
        """Send :attr:`probe`."""
        reply = await leased.call(self.probe, attempts=1)
        reply.object(self.probe.about)
        text = f"{self.vendor.name} answers at {leased.account.base_url}"
        return Identity(text=text, reply=reply)
