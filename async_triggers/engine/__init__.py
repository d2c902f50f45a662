"""The polling engine: many waiters, one poller for each vendor account.

Nothing here knows Airflow or any vendor. A vendor is an object of the protocol
:class:`async_triggers.engine.wire.Vendor`; an account of it is leased for the time
something waits (:func:`async_triggers.engine.accounts.lease`).
"""
