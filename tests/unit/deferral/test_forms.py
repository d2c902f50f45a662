"""The forms of connections as Airflow 3.1 asks each hook for them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from async_triggers.provider_info import conn_fields, get_provider_info
from tests.vendors import Entry as Case
from tests.vendors import every_vendor


class Field:
    """A field of WTForms, or a part of one."""

    def __init__(self, **given: Any) -> None:
        self.given = given


class Text(Field):
    """A line of text."""


class Switch(Field):
    """On or off."""


@pytest.fixture
def _forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the modules that Airflow's form service plays where they are missing."""
    parts: dict[str, dict[str, Any]] = {
        "wtforms": {"StringField": Text, "BooleanField": Switch},
        "wtforms.validators": {"Optional": Field},
        "flask_appbuilder": {},
        "flask_appbuilder.fieldwidgets": {"BS3TextFieldWidget": Field},
    }
    for name, contents in parts.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)


def form(conn_type: str) -> dict[str, Any]:
    # A vendor of another package declares its own.
    forms = get_provider_info()["connection-types"]
    found: dict[str, Any] = next(
        (each for each in forms if each["connection-type"] == conn_type), {}
    )
    return found


@pytest.mark.usefixtures("_forms")
@every_vendor
def test_the_hooks_form_is_that_of_the_metadata(case: Case) -> None:
    hook = case.hook_class
    declared = form(hook.conn_type)
    fields = declared.get("conn-fields", conn_fields(hook.conn_type))

    # Airflow looks at the class itself, not at what it inherits.
    widgets = vars(hook)["get_connection_form_widgets"].__get__(None, hook)()

    assert list(widgets) == list(fields)
    for name, widget in widgets.items():
        kind = Switch if "boolean" in fields[name]["schema"]["type"] else Text
        assert type(widget) is kind
        assert widget.given["label"] == fields[name]["label"]
        assert widget.given["description"] == fields[name]["description"]

    behaviour = vars(hook)["get_ui_field_behaviour"].__get__(None, hook)()
    if declared:
        wanted = declared["ui-field-behaviour"]
        assert behaviour["relabeling"] == wanted["relabeling"]
        assert behaviour["hidden_fields"] == wanted["hidden-fields"]


def test_a_subclass_of_a_hook_declares_no_second_form() -> None:
    hook = type("Custom", (next(iter(every_hook())),), {})

    assert "get_connection_form_widgets" not in vars(hook)


def every_hook() -> list[type]:
    from tests.vendors import VENDORS

    return [entry.hook_class for entry in VENDORS]
