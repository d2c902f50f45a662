"""What Airbyte's public API says, without I/O.

The API is described at https://reference.airbyte.com and, with the server's own wire
format, in the OpenAPI file of https://github.com/airbytehq/airbyte-platform.
"""
