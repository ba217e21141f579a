"""Messages other than codes: events and notices, delivery reports and messages from phones.

Nothing here knows a request or Flask.
"""
