"""The settings of the shop: its defaults, the environment, and those passed to `create_app`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flask import Config, Flask

SIMULATOR_URL = "http://127.0.0.1:8025"

DEMO_SENDERS = {
    "raygan": {
        "gateway": "raygan",
        "username": "demo",
        "password": "demo",
        "line": "50001234",
        "native_codes": False,
    },
    "wikipayam": {
        "gateway": "wikipayam",
        "token": "demo",
        "line": "30005678",
        "otp_pattern_id": 1,
    },
}
"""Senders for the simulator, which accepts any credentials.

The order is the order of failover. `native_codes` is off, so that Raygan sends codes of the app.
Their text has the site's name and, on a host that WebOTP accepts, the line from which browsers fill
in the code. WikiPayam also makes calls.
"""

DEMO_STAFF_MOBILES = ("09121111111",)
"""The recipients of texts to staff while the simulator runs."""


def smsverify_settings() -> dict[str, object]:
    """Return the shop's settings of the extension, with `SMSVERIFY_*` variables on top.

    Variables are parsed like Flask's own: values may be JSON, and `__` sets one key of a dict. So
    `SMSVERIFY_AREAS__orders=false` leaves the other areas unchanged.
    """
    settings = Config(
        os.curdir,
        {
            "SITE_NAME": {"fa": "چنار", "en": "Chenar"},
            "EXEMPT_GROUPS": ["resellers"],
            "AREAS": {"domains": ["domains.*"]},
            "SIGN_IN": True,
        },
    )
    settings.from_prefixed_env("SMSVERIFY")
    return {f"SMSVERIFY_{key}": value for key, value in settings.items()}


def configure(app: Flask, config: Mapping[str, object]) -> None:
    """Set `app.config` from the defaults, the environment and `config`. The last one wins.

    If no senders are configured, the demo senders are used with the simulator.
    """
    app.config.from_mapping(
        DEBUG=True,  # SMSVERIFY_SIMULATOR_URL needs debug or testing mode
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{_database_path(app)}",
    )
    app.config.from_mapping(smsverify_settings())
    app.config.from_mapping(config)
    if "SMSVERIFY_SENDERS" not in app.config:
        app.config["SMSVERIFY_SENDERS"] = DEMO_SENDERS
        app.config.setdefault("SMSVERIFY_SIMULATOR_URL", SIMULATOR_URL)
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY") or load_secret_key(
            Path(app.instance_path)
        )


def load_secret_key(folder: Path) -> str:
    """Return the secret key stored in a folder. The first call creates it, for its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "secret_key"
    with (
        suppress(FileExistsError),
        open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,
    ):
        file.write(secrets.token_hex(32))
    return path.read_text()


def _database_path(app: Flask) -> Path:
    """Return `EXAMPLE_DATABASE`, or a file in the instance folder."""
    path = os.environ.get("EXAMPLE_DATABASE")
    if path:
        return Path(path).absolute()
    Path(app.instance_path).mkdir(parents=True, exist_ok=True)
    return Path(app.instance_path) / "shop.sqlite"
