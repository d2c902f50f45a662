"""What waiting tasks cost a whole Airflow: the ways of waiting, their runs, the tables."""
