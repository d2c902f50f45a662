"""Rewrites the imports of DAGs that use another provider for the same vendors.

The code to migrate is read, never run: neither Airflow nor the other provider has to be
installed. What this package offers is read from its own source for the same reason.
"""
