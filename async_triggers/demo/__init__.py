"""A real Airflow on this machine, to watch the operators at work and to test them."""

from __future__ import annotations
