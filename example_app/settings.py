"""Where the shop's settings come from: the environment, the caller, and what the demo fills in."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flask import Config, Flask

SIMULATOR_URL = "http://127.0.0.1:8025"

DEMO_SENDERS = {
    "raygan": {"gateway": "raygan", "username": "demo", "password": "demo", "line": "50001234"},
    "wikipayam": {
        "gateway": "wikipayam",
        "token": "demo",
        "line": "30005678",
        "otp_pattern_id": 1,
    },
}
"""Two gateways with credentials that only the simulator takes: Raygan makes its own codes,
WikiPayam sends ours and can call. Where Raygan fails, the code goes by WikiPayam."""


def smsverify_settings() -> dict[str, object]:
    """The shop's own choices, and over them every `SMSVERIFY_*` variable of the environment.

    These are read as Flask reads its own: values may be JSON, and `__` reaches into a table, so
    that `SMSVERIFY_AREAS__orders=false` leaves the other areas as they are.
    """
    settings = Config(
        os.curdir,
        {
            "SITE_NAME": "چنار",
            "EXEMPT_GROUPS": ["resellers"],
            "AREAS": {"domains": ["domains.*"]},
        },
    )
    settings.from_prefixed_env("SMSVERIFY")
    return {f"SMSVERIFY_{key}": value for key, value in settings.items()}


def configure(app: Flask, given: Mapping[str, object]) -> None:
    """Fill `app.config`. What the caller gave wins over the environment, and that over the demo.

    Without senders of your own, the demo's are used and go to the simulator.
    """
    app.config.from_mapping(
        DEBUG=True,  # this is a demo: the simulator is refused anywhere else
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{_database_path(app)}",
    )
    app.config.from_mapping(smsverify_settings())
    app.config.from_mapping(given)
    if "SMSVERIFY_SENDERS" not in app.config:
        app.config["SMSVERIFY_SENDERS"] = DEMO_SENDERS
        app.config.setdefault("SMSVERIFY_SIMULATOR_URL", SIMULATOR_URL)
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY") or kept_secret_key(
            Path(app.instance_path)
        )


def kept_secret_key(folder: Path) -> str:
    """The key in `folder`, made at the first start and readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "secret_key"
    with (
        suppress(FileExistsError),
        open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,
    ):
        file.write(secrets.token_hex(32))
    return path.read_text()


def _database_path(app: Flask) -> Path:
    """`EXAMPLE_DATABASE`, or a file in the instance folder, which is made if need be."""
    chosen = os.environ.get("EXAMPLE_DATABASE")
    if chosen:
        return Path(chosen).absolute()
    Path(app.instance_path).mkdir(parents=True, exist_ok=True)
    return Path(app.instance_path) / "shop.sqlite"
