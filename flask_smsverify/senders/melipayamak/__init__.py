"""MeliPayamak (payamak-panel.com): texts, and codes by an approved pattern. SOAP."""

from .sender import MeliPayamak

__all__ = ["MeliPayamak"]
