"""dbt Cloud: operators, sensor, trigger, hook and link."""
