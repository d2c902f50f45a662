"""Fivetran: operators, sensor, trigger and hook for syncs and re-syncs."""
