"""WikiPayam: texts, codes by SMS and by a phone call, and received texts. JSON over HTTPS."""

from .sender import WikiPayam

__all__ = ["WikiPayam"]
