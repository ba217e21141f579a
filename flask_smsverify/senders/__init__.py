"""Senders: the classes that speak to gateways, one file or folder a gateway.

`base` defines a sender and its values, `registry` makes senders from the settings, and `http` and
`soap` are the transports. Nothing is imported here, so that an app loads only the gateways in its
settings.
"""
