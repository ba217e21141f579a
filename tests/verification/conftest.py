"""Fixtures for tests of the verifier: flows and parallel processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import parallel
import pytest
from flows import MEMORY, Flow, Native, flow_of


@pytest.fixture(scope="session")
def processes() -> Iterator[parallel.Processes]:
    with parallel.processes() as processes:
        yield processes


@pytest.fixture
def make_flow(make_app: Callable[..., Any]) -> Iterator[Callable[..., Flow]]:
    """Return the factory of flows, `make_flow(database_url, **config)`, with a fixed clock."""
    with ExitStack() as stack:

        def make(url: str, **config: Any) -> Flow:
            app = make_app(url, **{"SMSVERIFY_SENDERS": MEMORY, **config})
            stack.enter_context(app.app_context())
            return flow_of(app)

        yield make


@pytest.fixture
def flow(make_flow: Callable[..., Flow], sqlite: str) -> Flow:
    """Return a flow on SQLite, with the default settings and three users."""
    return make_flow(sqlite, users=3)


@pytest.fixture
def native_flow(make_flow: Callable[..., Flow], sqlite: str) -> tuple[Flow, Native]:
    """Return a flow with four users, and the native gateway of its only sender."""
    flow = make_flow(sqlite, users=4, SMSVERIFY_ACCOUNTS_PER_MOBILE=0)
    native = Native()
    flow.route(native)
    return flow, native
