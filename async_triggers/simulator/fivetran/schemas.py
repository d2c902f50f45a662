"""The schema config of a connection: what it writes, and where to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from async_triggers.simulator.fivetran.replies import data, not_found

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.scene import FivetranScene


class Schemas:
    """The operation on the schema config."""

    def __init__(self, scene: FivetranScene) -> None:
        self._scene = scene

    def get(self, request: SimRequest, connection_id: str) -> SimReply:
        """Answer with the schemas and tables of a connection."""
        # https://fivetran.com/docs/rest-api/api-reference/connection-schema
        tables = self._scene.connection(connection_id).tables
        if tables is None:
            raise not_found("SchemaConfig", connection_id)
        schemas = {
            schema: {
                "name_in_destination": schema,
                "enabled": True,
                "tables": {
                    f"source_{table['name']}": _shown_table(table)
                    for table in (
                        {"name": one} if isinstance(one, str) else one for one in names
                    )
                },
            }
            for schema, names in tables.items()
        }
        return data(
            {
                "enable_new_by_default": True,
                "schema_change_handling": "ALLOW_ALL",
                "schemas": schemas,
            }
        )


def _shown_table(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name_in_destination": table["name"],
        "enabled": table.get("enabled", True),
        "enabled_patch_settings": {"allowed": True},
        "supports_columns_config": True,
        "supports_history_mode": False,
        "columns": {},
    }
