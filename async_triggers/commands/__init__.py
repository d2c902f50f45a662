"""The subcommands of ``async-triggers``, one module each.

A module adds its arguments with ``register`` and imports what it needs when it runs: the
command line starts without Airflow.
"""
