"""Asanak (asanak.com): texts, and codes by a template. Two REST APIs; webhooks for replies."""

from .sender import Asanak

__all__ = ["Asanak"]
