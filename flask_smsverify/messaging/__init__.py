"""Messages other than codes: notices, delivery reports and messages from phones.

Nothing here knows a request or Flask.
"""
