"""The app context in which code of the host runs: receivers of signals, and its own gateways."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from flask import Flask, has_app_context


def host_context(app: Flask) -> AbstractContextManager[object]:
    """Return a context manager that enters the app context, unless the thread is in one."""
    return nullcontext() if has_app_context() else app.app_context()
