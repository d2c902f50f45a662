from __future__ import annotations

import pytest

from async_triggers.engine.address import Address, read_address
from async_triggers.engine.errors import AccountMisconfigured


def read(text: str, *, port: int | None = None, scheme: str = "https") -> Address:
    return read_address(
        text, port=port, scheme=scheme, credentials="use password", form="no host"
    )


@pytest.mark.parametrize(
    ("text", "origin", "path"),
    [
        ("api.example", "https://api.example", ""),
        ("http://api.example/", "http://api.example", ""),
        ("api.example:8000/api/v2/", "https://api.example:8000", "/api/v2"),
        ("http://[::1]:8000/x", "http://[::1]:8000", "/x"),
        ("http://bücher.example./x", "http://xn--bcher-kva.example.", "/x"),
        ("https://my_host:1", "https://my_host:1", ""),
        ("http://api.example/a b/é/%20", "http://api.example", "/a%20b/%C3%A9/%20"),
    ],
)
def test_a_host_is_taken_apart(text: str, origin: str, path: str) -> None:
    address = read(text)

    assert (address.origin, address.path) == (origin, path)
    assert address.host in origin


def test_what_the_host_names_itself_counts_first() -> None:
    assert read("api.example", port=80, scheme="http").origin == "http://api.example:80"
    assert read("https://api.example:81", port=80).origin == "https://api.example:81"


@pytest.mark.parametrize("text", ["u:planted@x", "https://u:planted@x", "x/planted@y"])
def test_credentials_in_the_host_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(AccountMisconfigured, match="use password") as refused:
        read(text)

    assert "planted" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "ftp://planted", "https://planted:port", "http://[planted", "http:///"]
)
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(AccountMisconfigured, match=r"^no host$"):
        read(text)
