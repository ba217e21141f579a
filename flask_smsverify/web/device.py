"""The cookie of a browser in which a mobile was proved."""

from __future__ import annotations

from flask import Response, after_this_request, current_app, request

from ..state import get_state

COOKIE = "smsverify_device"


def device_token() -> str | None:
    """Return the device token of this request."""
    return request.cookies.get(COOKIE)


def remember_device(mobile: str | None, user_id: str) -> None:
    """Give the browser of this request the token of a mobile that its user has proved.

    Without https the cookie is set in debug mode and in tests only.
    """
    devices = get_state().verifier.devices
    if mobile is None or not devices.lifetime:
        return
    token = devices.dump(mobile, user_id)
    config = current_app.config
    is_development = current_app.debug or current_app.testing

    @after_this_request
    def set_cookie(response: Response) -> Response:
        response.set_cookie(
            COOKIE,
            token,
            max_age=devices.lifetime,
            secure=request.is_secure or not is_development,
            httponly=True,
            samesite="Lax",
            path=config["SESSION_COOKIE_PATH"] or config["APPLICATION_ROOT"],
            domain=config["SESSION_COOKIE_DOMAIN"],
        )
        return response
