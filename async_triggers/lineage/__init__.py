"""What OpenLineage's listener is given of the jobs that tasks wait for.

Its modules import ``apache-airflow-providers-openlineage`` and are loaded only where a
listener of it is active, see :mod:`async_triggers.deferral.lineage`.
"""
