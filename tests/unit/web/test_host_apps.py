"""Host apps that differ from the usual one: addresses, credentials, hosts and templates."""

from __future__ import annotations

from conftest import MakeApp
from visiting import SEND, api, browser


def test_limits_count_the_address_that_the_address_getter_returns(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=3, SMSVERIFY_LIMITS={"ip": "1/day"})
    address = "192.0.2.1"
    app.extensions["test_smsverify"].address_getter(lambda: address)
    assert api(browser(app, 1), SEND).status_code == 200
    assert api(browser(app, 2), SEND).status_code == 429
    address = "192.0.2.2"
    assert api(browser(app, 3), SEND).status_code == 200
