"""Senders: the classes that call gateways, one file or folder per gateway.

`base` defines a sender and its values, `registry` makes senders from the settings, and `http` and
`soap` are the transports. Nothing is imported here, so that an app loads only the gateways in its
settings.
"""
