"""Airbyte: operators, sensor, trigger and hook for syncs, resets and clears."""
