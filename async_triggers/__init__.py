"""Deferrable operators for Airbyte, Fivetran and dbt Cloud on a shared poller.

A task starts a job at the vendor, writes down its id and defers. On the triggerer
every task of one vendor account waits on the same poller, whose requests answer
for many jobs at once; when a job ends, its task is resumed with the outcome.

Import operators, sensors, triggers and hooks from the vendor's own package, for
example ``async_triggers.airbyte.operators``.
"""

from __future__ import annotations

__version__ = "0.1.0"
