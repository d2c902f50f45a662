"""Example DAGs, run by the demo and by the tests as they stand here."""
