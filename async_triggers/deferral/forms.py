"""The forms of connections where Airflow does not read them from a provider's metadata.

That is Airflow 3.1: it imports each hook and calls its class. Later versions never call
this, and need none of what it imports.
"""

from __future__ import annotations

from typing import Any

from async_triggers.provider_info import conn_fields


def form_widgets(connection_type: str) -> dict[str, Any]:
    """Return the form's fields in ``extra``, as WTForms' fields by name.

    A number is a text there, which may be left empty and have a fraction; it is checked
    when the connection is read.
    """
    from flask_appbuilder.fieldwidgets import (  # noqa: PLC0415
        BS3TextFieldWidget,
    )
    from wtforms import (  # noqa: PLC0415
        BooleanField,
        StringField,
    )
    from wtforms.validators import (  # noqa: PLC0415
        Optional,
    )

    widgets: dict[str, Any] = {}
    for name, field in conn_fields(connection_type).items():
        about = {"label": field["label"], "description": field["description"]}
        if "boolean" in field["schema"]["type"]:
            widgets[name] = BooleanField(**about)
        else:
            widgets[name] = StringField(
                **about, validators=[Optional()], widget=BS3TextFieldWidget()
            )

    return widgets
