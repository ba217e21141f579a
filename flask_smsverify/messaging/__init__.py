"""Messages other than codes: events and notices, delivery reports and messages from phones.

Nothing here depends on a request or Flask.
"""
