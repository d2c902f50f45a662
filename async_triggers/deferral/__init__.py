"""Airflow without a vendor: the half of deferral that every vendor shares."""
