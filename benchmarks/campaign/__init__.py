"""A campaign of faults against a whole Airflow, and its verdict."""
