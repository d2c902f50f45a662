"""The page "External jobs" in Airflow's UI: which tasks wait for which job of a vendor.

It reads Airflow's database in the API server, and needs this package nowhere else.
"""
