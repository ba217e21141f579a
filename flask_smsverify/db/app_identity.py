"""Which app the tables belong to, according to the row of `smsverify_app`.

The first use stores `SMSVERIFY_APP_ID` and a random id. From then on, an app with another
`SMSVERIFY_APP_ID` is refused: its users would have the keys of this app's users.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..errors import ConfigurationError
from .models import App

_OTHER_APP = (
    "The tables of flask_smsverify in this database belong to the app {stored!r}, and this app is "
    "{configured!r}. If it is the same app, or an app with the same users, set SMSVERIFY_APP_ID = "
    "{stored!r}. An app with other users needs tables of its own: in another database, or in a "
    "schema of its own by SQLAlchemy(metadata=MetaData(schema=...))."
)


@dataclass(frozen=True, slots=True)
class AppIdentity:
    """The stored row.

    :param app_id: `SMSVERIFY_APP_ID` at the first use.
    :param instance_id: random, so equal in copies of one database only.
    """

    app_id: str
    instance_id: str

    def require(self, app_id: str) -> None:
        """Raise `ConfigurationError` if the tables belong to another app than this one."""
        if self.app_id != app_id:
            raise ConfigurationError(_OTHER_APP.format(stored=self.app_id, configured=app_id))


def read_identity(session: Session) -> AppIdentity | None:
    """Return the stored row; None before the first use."""
    row = session.execute(select(App.app_id, App.instance_id).where(App.id == App.ONLY)).first()
    return None if row is None else AppIdentity(row.app_id, row.instance_id)


def new_identity(app_id: str) -> AppIdentity:
    """Return the row of a first use."""
    return AppIdentity(app_id, secrets.token_hex(16))
