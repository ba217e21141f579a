"""Delivery: pass a message to the senders of a route, one after the other, until one accepts it."""

from __future__ import annotations

from .failover import Delivered, Delivery, Job
from .routes import Routes

__all__ = ["Delivered", "Delivery", "Job", "Routes"]
