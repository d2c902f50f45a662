"""Deleting what tasks have left behind in Airflow Variables."""
