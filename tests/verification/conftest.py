"""Fixtures for the rules of proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import parallel
import pytest
from flows import MEMORY, Flow, flow_of


@pytest.fixture(scope="session")
def crowd() -> Iterator[parallel.Crowd]:
    with parallel.crowd() as crowd:
        yield crowd


@pytest.fixture
def make_flow(make_app: Callable[..., Any]) -> Iterator[Callable[..., Flow]]:
    """Builds flows: `make_flow(database_url, **config)`, with a clock that stands still."""
    with ExitStack() as stack:

        def make(url: str, **config: Any) -> Flow:
            app = make_app(url, **{"SMSVERIFY_SENDERS": MEMORY, **config})
            stack.enter_context(app.app_context())
            return flow_of(app)

        yield make


@pytest.fixture
def flow(make_flow: Callable[..., Flow], sqlite: str) -> Flow:
    """On SQLite, with the default settings and three users."""
    return make_flow(sqlite, users=3)
