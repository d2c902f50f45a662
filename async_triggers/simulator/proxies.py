"""Answers that no vendor gives: those of what stands between a client and its API.

A proxy, gateway, ingress, firewall or service mesh answers by itself where it has no
route, denies access, or cannot reach what is behind it. None of this says anything about
a job. The bodies are those that the products send.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from async_triggers.simulator.exchange import SimReply, json_bytes

_HTML: Final = "text/html"
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ProxyAnswer:
    """One answer of a proxy, ready to be sent."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def reply(self) -> SimReply:
        """Return the answer as the simulator sends it."""
        kind = {} if self.content_type is None else {"Content-Type": self.content_type}
        return SimReply(self.status, {**kind, **self.headers}, self.body)


def _text(status: int, text: str, server: str = "", **headers: str) -> ProxyAnswer:
    return ProxyAnswer(status, text.encode(), _TEXT, _headers(server, headers))


def _html(status: int, page: str, server: str = "", **headers: str) -> ProxyAnswer:
    return ProxyAnswer(status, page.encode(), _HTML, _headers(server, headers))


def _json(
    status: int,
    payload: object,
    server: str = "",
    *,
    content_type: str = _JSON,
    **headers: str,
) -> ProxyAnswer:
    body = json_bytes(payload)
    return ProxyAnswer(status, body, content_type, _headers(server, headers))


def _empty(status: int, server: str = "", **headers: str) -> ProxyAnswer:
    return ProxyAnswer(
        status, b"", None, {**_headers(server, headers), "Content-Length": "0"}
    )


def _headers(server: str, others: Mapping[str, str]) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in others.items()}
    return {"Server": server, **named} if server else named


def _nginx(status: int, title: str, **headers: str) -> ProxyAnswer:
    page = (
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {title}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return _html(status, page, "nginx", **headers)


def _apache(status: int, title: str, text: str, **headers: str) -> ProxyAnswer:
    page = (
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n'
        f"<title>{status} {title}</title>\n</head><body>\n<h1>{title}</h1>\n"
        f"<p>{text}</p>\n<hr>\n<address>Apache Server at gateway Port 443</address>\n"
        "</body></html>\n"
    )
    return _html(status, page, "Apache", **headers)


def _haproxy(status: int, title: str, text: str) -> ProxyAnswer:
    page = f"<html><body><h1>{status} {title}</h1>\n{text}\n</body></html>\n"
    return _html(status, page, "", Cache_Control="no-cache")


def _problem(status: int, title: str, type_: str = "about:blank") -> ProxyAnswer:
    payload = {"type": type_, "title": title, "status": status}
    return _json(status, payload, content_type=_PROBLEM)


def _kubernetes(status: int, reason: str, message: str) -> ProxyAnswer:
    return _json(
        status,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": status,
        },
    )


def _redirect(status: int, location: str) -> ProxyAnswer:
    page = f'<a href="{location}">{status}</a>.\n'
    return _html(status, page, "", Location=location)


_LOGIN: Final = "https://login.example.com/authorize?client_id=gateway"

PROXY_ANSWERS: Final[Mapping[str, ProxyAnswer]] = {
    # Nothing is routed there, at least not at this moment.
    "go-404": _text(404, "404 page not found\n", X_Content_Type_Options="nosniff"),
    "nginx-404": _nginx(404, "Not Found"),
    "apache-404": _apache(
        404, "Not Found", "The requested URL was not found on this server."
    ),
    "kong-404": _json(
        404, {"message": "no Route matched with those values"}, "kong/3.9.0"
    ),
    "apisix-404": _json(404, {"error_msg": "404 Route Not Found"}, "APISIX/3.11.0"),
    "envoy-404": _empty(404, "istio-envoy"),
    "problem-404": _problem(404, "Not Found"),
    "aspnet-404": _problem(
        404, "Not Found", "https://tools.ietf.org/html/rfc9110#section-15.5.5"
    ),
    "spring-404": _json(
        404,
        {
            "timestamp": "2026-03-25T01:30:00.000+00:00",
            "status": 404,
            "error": "Not Found",
            "path": "/",
        },
    ),
    "micronaut-404": _json(
        404,
        {
            "message": "Not Found",
            "_embedded": {"errors": [{"message": "Page Not Found"}]},
            "_links": {"self": {"href": "/", "templated": False}},
        },
    ),
    "fastapi-404": _json(404, {"detail": "Not Found"}, "uvicorn"),
    "express-404": _html(
        404,
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<title>Error</title>\n</head>\n'
        "<body>\n<pre>Cannot GET /</pre>\n</body>\n</html>\n",
        X_Powered_By="Express",
    ),
    "cloud-foundry-404": _text(
        404,
        "404 Not Found: Requested route ('api.example.com') does not exist.\n",
        X_Cf_Routererror="unknown_route",
    ),
    "kubernetes-404": _kubernetes(
        404, "NotFound", "the server could not find the requested resource"
    ),
    # The client is not let through.
    "nginx-400": _nginx(400, "Bad Request"),
    "nginx-401": _nginx(
        401, "Authorization Required", WWW_Authenticate='Basic realm="Restricted"'
    ),
    "nginx-403": _nginx(403, "Forbidden"),
    "apache-400": _apache(
        400,
        "Bad Request",
        "Your browser sent a request this server did not understand.",
    ),
    "apache-401": _apache(
        401,
        "Unauthorized",
        "This server could not verify that you are authorized to access the document.",
        WWW_Authenticate='Basic realm="Restricted"',
    ),
    "apache-403": _apache(
        403, "Forbidden", "You don't have permission to access this resource."
    ),
    "aws-waf-403": _html(
        403,
        "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n"
        "<center><h1>403 Forbidden</h1></center>\r\n</body>\r\n</html>\r\n",
        "awselb/2.0",
    ),
    "cloudflare-403": _html(
        403,
        "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title>"
        "</head><body><h1>Sorry, you have been blocked</h1></body></html>",
        "cloudflare",
        CF_RAY="8f0000000000abcd-FRA",
    ),
    "akamai-403": _html(
        403,
        "<HTML><HEAD>\n<TITLE>Access Denied</TITLE>\n</HEAD><BODY>\n<H1>Access Denied"
        "</H1>\nYou don't have permission to access this server.<P>\n"
        "Reference&#32;&#35;18&#46;2f0\n</BODY>\n</HTML>\n",
        "AkamaiGHost",
    ),
    "modsecurity-406": _apache(
        406, "Not Acceptable!", "This error was generated by Mod_Security."
    ),
    "squid-407": _html(
        407,
        "<html><head><title>ERROR: Cache Access Denied</title></head><body>"
        "<h1>ERROR</h1><h2>Cache Access Denied.</h2></body></html>",
        "squid/6.6",
        Proxy_Authenticate='Basic realm="proxy"',
    ),
    "kong-401": _json(
        401,
        {"message": "No API key found in request"},
        "kong/3.9.0",
        WWW_Authenticate="Key",
    ),
    "kong-403": _json(
        403, {"message": "You cannot consume this service"}, "kong/3.9.0"
    ),
    "apisix-401": _json(
        401, {"message": "Missing API key in request"}, "APISIX/3.11.0"
    ),
    "apisix-403": _json(403, {"message": "Your IP address is not allowed"}),
    "envoy-401": _text(
        401, "Jwt is missing", "envoy", WWW_Authenticate='Bearer realm="gateway"'
    ),
    "envoy-403": _text(403, "RBAC: access denied", "envoy"),
    "aws-gateway-401": _json(
        401, {"message": "Unauthorized"}, X_Amzn_ErrorType="UnauthorizedException"
    ),
    "aws-gateway-403": _json(
        403,
        {"message": "Missing Authentication Token"},
        X_Amzn_ErrorType="MissingAuthenticationTokenException",
    ),
    "azure-gateway-401": _json(
        401,
        {
            "statusCode": 401,
            "message": "Access denied due to missing subscription key.",
        },
    ),
    "azure-403": _json(
        403,
        {"error": {"code": "AuthorizationFailed", "message": "No permission."}},
    ),
    "apigee-401": _json(
        401,
        {
            "fault": {
                "faultstring": "Invalid ApiKey",
                "detail": {"errorcode": "oauth.v2.InvalidApiKey"},
            }
        },
    ),
    "oauth-proxy-401": _json(
        401,
        {"error": "invalid_token", "error_description": "The token is not active"},
        WWW_Authenticate='Bearer error="invalid_token"',
    ),
    "oathkeeper-401": _json(
        401,
        {
            "error": {
                "code": 401,
                "status": "Unauthorized",
                "message": "Access credentials are invalid",
            }
        },
    ),
    "wso2-401": _json(
        401,
        {
            "code": "900902",
            "message": "Missing Credentials",
            "description": "Make sure your API invocation call has a header",
        },
    ),
    "envelope-403": _json(403, {"status": {"code": 0, "message": "denied"}}),
    "numeric-code-404": _json(404, {"code": 404, "message": "Not found"}),
    "problem-400": _problem(400, "Bad Request"),
    "problem-401": _problem(401, "Unauthorized"),
    "problem-403": _problem(403, "Forbidden"),
    "framework-problem-403": _problem(
        403, "Forbidden", "https://httpstatuses.io/403#gateway"
    ),
    "kubernetes-401": _kubernetes(401, "Unauthorized", "Unauthorized"),
    "kubernetes-403": _kubernetes(
        403, "Forbidden", 'User "system:anonymous" cannot get path "/"'
    ),
    # A status without a word.
    "empty-400": _empty(400),
    "empty-401": _empty(401),
    "empty-403": _empty(403),
    "empty-404": _empty(404),
    "empty-429": _empty(429),
    # The request came at a wrong time or by a wrong way.
    "haproxy-408": _haproxy(
        408, "Request Time-out", "Your browser didn't send a complete request in time."
    ),
    "empty-408": _empty(408),
    "nginx-421": _nginx(421, "Misdirected Request"),
    "envoy-421": _empty(421, "envoy"),
    "fastapi-422": _json(
        422,
        {
            "detail": [
                {
                    "type": "missing",
                    "loc": ["header", "x-gateway"],
                    "msg": "Field required",
                }
            ]
        },
        "uvicorn",
    ),
    "nginx-425": _nginx(425, "Too Early"),
    "empty-425": _empty(425),
    # Too many requests for the proxy, which has a limit besides the vendor's.
    "nginx-429": _nginx(429, "Too Many Requests"),
    "envoy-429": _text(429, "local_rate_limited", "envoy"),
    "kong-429": _json(
        429,
        {"message": "API rate limit exceeded"},
        "kong/3.9.0",
        RateLimit_Limit="60",
        RateLimit_Remaining="0",
    ),
    # Go elsewhere: to a login, to another host, to another scheme.
    "login-302": _redirect(302, _LOGIN),
    "login-303": _redirect(303, _LOGIN),
    "moved-301": _redirect(301, "https://other.example.com/"),
    "moved-307": _redirect(307, "https://other.example.com/"),
    "moved-308": _redirect(308, "http://other.example.com/"),
    # Trouble that is plainly no refusal.
    "login-200": _html(
        200,
        "<!doctype html><html><head><title>Sign in</title></head>"
        '<body><form action="/login" method="post"></form></body></html>',
    ),
    "f5-200": _html(
        200,
        "<html><head><title>Request Rejected</title></head><body>The requested URL was"
        " rejected. Your support ID is: 1234567890</body></html>",
    ),
    "nginx-502": _nginx(502, "Bad Gateway"),
    "nginx-504": _nginx(504, "Gateway Time-out"),
    "envoy-503": _text(503, "no healthy upstream", "envoy"),
    "kong-503": _json(
        503,
        {"message": "failure to get a peer from the ring-balancer"},
        "kong/3.9.0",
    ),
}
"""What proxies answer by themselves, by product and status."""

PROXY_REFUSALS: Final[Mapping[str, ProxyAnswer]] = {
    name: answer for name, answer in PROXY_ANSWERS.items() if 300 <= answer.status < 500
}
"""Those of them that look like a refusal of the vendor: a status of 3xx or 4xx."""
