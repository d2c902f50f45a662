"""Credentials: who may call, and the tokens that the API issues."""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from async_triggers.simulator.airbyte.replies import refuse
from async_triggers.simulator.exchange import SimReply, SimRequest, json_reply

if TYPE_CHECKING:
    from async_triggers.simulator.airbyte.scene import AirbyteScene


class Tokens:
    """The tokens issued so far, with their expiry in epoch seconds."""

    def __init__(self, scene: AirbyteScene) -> None:
        self._scene = scene
        self.issued: dict[str, float] = {}

    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without a live token, static token or basic credentials."""
        settings = self._scene.settings
        if "none" in settings.auth:
            return
        scheme, _, value = request.header("Authorization").partition(" ")
        if scheme.lower() == "bearer":
            if (
                "token" in settings.auth
                and self.issued.get(value, 0.0) > self._scene.now()
            ):
                return
            if "bearer" in settings.auth and value in settings.bearer_tokens:
                return
        if "basic" in settings.auth:
            wanted = f"{settings.username}:{settings.password}".encode()
            if hmac.compare_digest(request.basic_credentials(), wanted):
                return
        raise refuse(401)

    def issue(self, request: SimRequest) -> SimReply:
        """Answer with a new access token for client credentials."""
        scene = self._scene
        # The form of the body is documented as JSON; a known client sends a form.
        # https://docs.airbyte.com/platform/using-airbyte/configuring-api-access
        if "form-urlencoded" in request.header("Content-Type"):
            parsed = parse_qs(request.body.decode("latin-1"))
            sent = {key: values[-1] for key, values in parsed.items()}
        else:
            sent = scene.body(request)
        if not sent.get("client_id") or not sent.get("client_secret"):
            raise refuse(400, "client_id and client_secret are required")
        settings = scene.settings
        good = (
            "token" in settings.auth
            and sent["client_id"] == settings.client_id
            and sent["client_secret"] == settings.client_secret
        )
        if not good:
            raise refuse(settings.wrong_credentials_status)
        expiry = scene.now() + settings.token_lifetime
        token = self._make_token(expiry)
        self.issued[token] = expiry
        scene.record.tokens_issued += 1
        shown = settings.reported_lifetime
        return json_reply(
            200,
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": int(settings.token_lifetime if shown is None else shown),
            },
        )

    def _make_token(self, expiry: float) -> str:
        parts = (
            json.dumps({"alg": "none", "typ": "JWT"}),
            json.dumps({"sub": "simulator", "exp": int(self._scene.shown(expiry))}),
            f"{self._scene.random.getrandbits(128):032x}",
        )
        return ".".join(
            base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode()
            for part in parts
        )
