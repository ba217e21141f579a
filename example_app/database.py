"""Create the tables of the shop, also in a database of an earlier version of the shop."""

from __future__ import annotations

from sqlalchemy import inspect, text
from sqlalchemy.schema import CreateColumn

from .extensions import db
from .models import RegistrarAccount

INITIAL_CREDIT = 2_000_000


def prepare() -> None:
    """Create what is missing: tables, columns and the account at the registrar.

    A new column needs a server default, which existing rows get. A real shop would use Alembic.
    """
    db.create_all()
    inspector = inspect(db.engine)
    for table in db.metadata.sorted_tables:
        existing = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in existing:
                definition = CreateColumn(column).compile(dialect=db.engine.dialect)
                name = db.engine.dialect.identifier_preparer.format_table(table)
                db.session.execute(text(f"ALTER TABLE {name} ADD COLUMN {definition}"))
    if db.session.get(RegistrarAccount, 1) is None:
        db.session.add(RegistrarAccount(id=1, credit=INITIAL_CREDIT))
    db.session.commit()
