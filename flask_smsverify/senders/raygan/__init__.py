"""Raygan SMS, also called Trez: texts, own codes and native codes. JSON over HTTPS."""

from .sender import Raygan

__all__ = ["Raygan"]
