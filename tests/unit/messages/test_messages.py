"""What people read: URLs that can be followed, the vendor's own nouns, fields by name."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.deferral.errors import name_fields
from async_triggers.engine.wording import (
    aside,
    begun,
    ends_with_url,
    sentence,
    spaced,
    with_url,
)
from async_triggers.provider_info import field_label
from async_triggers.simulator import Fault
from tests.airflow_versions import needs_start_from_trigger
from tests.unit.deferral.vendors import make_vendor_world
from tests.unit.messages.links import harmed_in, links_of
from tests.unit.messages.situations import SITUATIONS, Scene
from tests.unit.messages.sources import problems, problems_in
from tests.vendors import AIRBYTE, VENDORS, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from collections.abc import Callable

any_situation = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=needs_start_from_trigger if name == "an_end_seen_by_a_sensor" else (),
        )
        for name in SITUATIONS
    ],
)


@pytest.fixture
def texts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[Case, str], list[str]]:
    """Return what plays a situation of a vendor, and tells all that people see of it."""

    def play(case: Case, name: str) -> list[str]:
        caplog.set_level(logging.INFO)
        scene = Scene(make_vendor_world(monkeypatch, case), case)
        SITUATIONS[name](scene)
        logged = [
            each.getMessage()
            for each in caplog.records
            if each.name.startswith(("task", "async_triggers."))
        ]
        return [*scene.texts, *logged]

    return play


# Where a URL may stand in a text, it may be an example of what to write.
EXAMPLES = (
    "https://api.airbyte.com/v1",
    "http://localhost:8000/api/public/v1",
    "https://host",
    "http://proxy:3128",
    "https://other.example.com",
)


@any_situation
@every_vendor
def test_every_url_can_be_followed_and_stands_last(
    texts: Callable[[Case, str], list[str]], case: Case, name: str
) -> None:
    shown = texts(case, name)

    assert shown
    for text in shown:
        assert harmed_in(text) == [], text
        for link, rest in links_of(text):
            assert rest == "" or link.startswith(EXAMPLES), text


@any_situation
@every_vendor
def test_every_vendor_is_spoken_of_in_its_own_words(
    texts: Callable[[Case, str], list[str]], case: Case, name: str
) -> None:
    for text in texts(case, name):
        # Names of arguments, and what is not a sentence.
        words = re.sub(r"\w+_\w+|https?://\S+|if_running is \w+", "", text)
        assert not re.search(case.wrong_words, words), text


# A field that stands alone, and not as "Client ID (login)".
BARE = re.compile(r"(?<![\w(/.])(host|login|password|schema|extra\.\w+)(?![\w(/])")
CONNECTIONS = (
    "a_connection_that_is_wrong",
    "a_connection_that_looks_wrong",
    "a_host_with_another_path",
    "a_key_that_is_refused_at_once",
    "a_key_that_is_withdrawn_while_it_waits",
)


@every_vendor
@pytest.mark.parametrize("name", CONNECTIONS)
def test_a_connections_fields_are_named_as_the_form_and_as_airflow_name_them(
    texts: Callable[[Case, str], list[str]], case: Case, name: str
) -> None:
    for text in texts(case, name):
        if f"(connection '{case.name}_default')" not in text:
            continue

        words = re.sub(r"https?://\S+", "", text)
        # What the form does not show under another name has the one name alone.
        bare = {
            field
            for field in BARE.findall(words)
            if field_label(case.name, field) != field
        }
        assert not bare, text


@every_vendor
def test_every_field_is_named_where_it_is_wrong(
    texts: Callable[[Case, str], list[str]], case: Case
) -> None:
    shown = "\n".join(text for name in CONNECTIONS for text in texts(case, name))

    wanted = [
        *case.labels,
        "Proxy (extra.proxies)",
        "Timeout (s) (extra.timeout)",
    ]
    assert [field for field in wanted if field not in shown] == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("login is empty", "Client ID (login) is empty"),
        (
            "set Client ID (login) and password",
            "set Client ID (login) and Client Secret",
        ),
        (
            "extra.ca_bundle cannot be used",
            "CA bundle (extra.ca_bundle) cannot be used",
        ),
        ("write it as https://host:port/path", "write it as https://host:port/path"),
        ("the hostname is login.example.com", "the hostname is login.example.com"),
        ("extra.unheard_of is", "extra.unheard_of is"),
    ],
)
def test_fields_are_found_in_a_message(text: str, named: str) -> None:
    assert name_fields(text, "airbyte").startswith(named)


def test_a_wrong_path_in_the_host_names_the_url_that_was_requested(
    texts: Callable[[Case, str], list[str]],
) -> None:
    shown = texts(AIRBYTE, "a_host_with_another_path")

    url = "http://localhost:8000/elsewhere/api/public/v1/applications/token"
    assert any("Server URL (host)" in each and each.endswith(url) for each in shown)


@pytest.mark.parametrize(
    "mode", [{}, {"deferrable": False}, {"start_in_trigger": True}]
)
def test_an_interval_that_is_too_short_is_explained(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    mode: dict[str, Any],
) -> None:
    """That of Airbyte's operator is so by default."""
    caplog.set_level(logging.INFO)
    scene = Scene(make_vendor_world(monkeypatch, AIRBYTE), AIRBYTE)

    scene.task(AIRBYTE.life("success"), **mode).run()

    shown = caplog.text + capsys.readouterr().out
    assert "Airbyte is polled at most every 5 s" in shown
    assert "an interval of 3 s makes no difference" in shown


@every_vendor
def test_an_interval_that_holds_is_not_explained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene(make_vendor_world(monkeypatch, case), case)

    scene.task(case.life("success"), **{case.interval_key: 20}).run()

    assert "is polled every" not in caplog.text


def test_each_situation_shows_a_url_of_each_kind(
    texts: Callable[[Case, str], list[str]],
) -> None:
    """So that the tests above do not pass for want of URLs."""
    for case in VENDORS:
        shown = "\n".join(texts(case, "an_end_of_each_kind"))
        assert len({link for link, _ in links_of(shown)}) >= 3

    wrong = "\n".join(texts(AIRBYTE, "an_outage_at_the_start"))
    assert "Requested: http://localhost:8000/api" in wrong


def test_no_text_of_the_package_puts_anything_behind_a_url() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    "source",
    [
        'f"See {job.url}."',
        'f"It failed ({url})"',
        'f"{error.message}: trying again"',
        'f"{words}{more} x"',
        'msg = "See https://example.com/x."',
        'msg = "See (https://example.com/x)"',
        'log.info("It goes on: %s, for now", job.url)',
        'self.log.warning("It failed (%s)", error)',
    ],
)
def test_the_check_of_the_source_sees(source: str) -> None:
    assert list(problems_in(source))


@pytest.mark.parametrize(
    "source",
    [
        'f"See {job.url}"',
        'f"{base_url}/jobs/{job_id}"',
        'f"{words} Trying again"',
        'msg = "See https://example.com/x or https://example.com/y"',
        'log.info("It goes on: %s", job.url)',
        'log.info("Job %s, for now", job_id)',
        're.compile("a https://example.com/(x) b")',
    ],
)
def test_the_check_of_the_source_lets_pass(source: str) -> None:
    assert list(problems_in(source)) == []


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("Job 1: started (https://ui/1)", ["https://ui/1)"]),
        ("Job 1 started: https://ui/1?a=b&c#d", []),
        ("See https://ui/1.", ["https://ui/1."]),
        ("See https://ui/1 or not", []),
    ],
)
def test_the_rule_takes_punctuation_for_a_part_of_a_link(
    text: str, links: list[str]
) -> None:
    assert harmed_in(text) == links


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("It failed", "https://ui/1", "It failed: https://ui/1"),
        ("It failed.", "https://ui/1", "It failed: https://ui/1"),
        ("It failed", "", "It failed"),
        ("See https://x/2", "https://ui/1", "See https://x/2 https://ui/1"),
    ],
)
def test_a_url_is_added_at_the_end(text: str, url: str, shown: str) -> None:
    assert with_url(text, url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("See https://x/2.", "See https://x/2 ."),
        ("(https://x/2), https://y/3;", "(https://x/2 ), https://y/3 ;"),
        ("https://x/a.b?c=d&e=(f)g or not", "https://x/a.b?c=d&e=(f)g or not"),
        ("no address at all.", "no address at all."),
    ],
)
def test_the_words_of_others_leave_their_urls_whole(text: str, shown: str) -> None:
    assert spaced(text) == shown
    assert harmed_in(shown) == []


def test_a_text_of_any_kind_is_read_in_no_time() -> None:
    """Vendors' words are read on the triggerer's event loop."""
    for text in ("https://" + "." * 100_000 + "x", "http://" * 20_000 + " "):
        assert not ends_with_url(f"{spaced(text)} ")


def test_texts_are_put_together_around_urls() -> None:
    assert sentence("It failed") == sentence("It failed.") == "It failed."
    assert sentence("See https://x/2") == "See https://x/2"
    assert aside("why") == "(why)"
    assert aside("see https://x/2") == "(see https://x/2 )"
    assert begun("run 5") == "Run 5"


@every_vendor
def test_urls_in_a_vendors_own_words_can_be_followed_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    words = (
        "Denied (see https://docs.example.com/a.b?c=1). More: https://example.com/d."
    )
    scene = Scene(make_vendor_world(monkeypatch, case), case)
    text = json.dumps(case.forbidden(words))
    scene.world.vendor.faults.add(
        Fault(kind="status", status=403, body=text, times=None)
    )

    scene.run(scene.task(case.life("success")).run)

    shown = "\n".join([*scene.texts, caplog.text])
    assert "https://docs.example.com/a.b?c=1" in {link for link, _ in links_of(shown)}
    assert harmed_in(shown) == []
