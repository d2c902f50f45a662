"""What Fivetran's REST API says, without I/O.

The API is described at https://fivetran.com/docs/rest-api/api-reference. A sync has no id
there: a run is known by what the connection showed before its start
(:class:`~async_triggers.fivetran.api.models.Run`), and over when the connection shows a
later time of success or failure. Server times are compared with server times alone.
"""
