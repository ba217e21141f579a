"""User models of every kind: keys, columns for the mobile, and what they cannot keep."""

from __future__ import annotations

import enum
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from conftest import database_params
from models import host, model_of
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.types import TypeDecorator
from sqlalchemy_utils import PhoneNumberType, UUIDType
from visiting import CHECK, MOBILE, OTHER, last_code

from flask_smsverify import SMSVerify
from flask_smsverify.errors import ConfigurationError

OTHER_NATIONAL = "09351112233"


def walk(app: Any, key: str) -> Any:
    """Log in, enter a new mobile, prove it, and open the guarded view."""
    client = app.test_client()
    client.get(f"/login/{key}")
    assert client.get("/guarded").status_code == 302
    client.post(MOBILE, data={"mobile": OTHER_NATIONAL, "send": "1"})
    answer = client.post(CHECK, data={"code": last_code(app), "next": "/guarded"})
    assert (answer.status_code, answer.location) == (303, "/guarded")
    assert client.get("/guarded").text == "guarded"
    return client


# --- keys -----------------------------------------------------------------------------------------


class TextUuid(TypeDecorator[uuid.UUID]):
    impl = sa.CHAR(36)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else uuid.UUID(value)


class NativeUuid(TypeDecorator[uuid.UUID]):
    impl = sa.Uuid
    cache_ok = True


class Guid(TypeDecorator[uuid.UUID]):
    """The recipe of SQLAlchemy's documentation."""

    impl = sa.CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        is_native = dialect.name == "postgresql"
        return dialect.type_descriptor(sa.Uuid() if is_native else sa.CHAR(32))

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if value is None or dialect.name == "postgresql" else value.hex

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(value)


class LowerText(TypeDecorator[str]):
    impl = sa.String(32)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.lower()


class UserId(int):
    """A key with a text of its own."""

    def __str__(self) -> str:
        return f"user-{int(self)}"


class IntegerKey(TypeDecorator[UserId]):
    impl = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else UserId(value)


class Tenant(enum.Enum):
    north = "n"
    south = "s"


ONE = uuid.UUID("0b6f0ab4-3c1f-4e6e-9d6c-2f0a53b3f9aa")
KEYS = {
    "TypeDecorator(CHAR(36))": (TextUuid(), ONE),
    "TypeDecorator(Uuid)": (NativeUuid(), ONE),
    "the GUID recipe": (Guid(), ONE),
    "UUIDType": (UUIDType(binary=True), ONE),
    "Uuid": (sa.Uuid(), ONE),
    "Uuid(native_uuid=False)": (sa.Uuid(native_uuid=False), ONE),
    "Uuid(as_uuid=False)": (sa.Uuid(as_uuid=False), str(ONE)),
    "LargeBinary": (sa.LargeBinary(16).with_variant(sa.BINARY(16), "mysql"), ONE.bytes),
    "TypeDecorator(lower)": (LowerText(), "Ali@Example"),
    "an int subclass": (IntegerKey(), UserId(7)),
    "Numeric": (sa.Numeric(12, 0), 12),
    "Enum": (sa.Enum(Tenant), Tenant.south),
    "CHAR": (sa.CHAR(12), "ali"),
}


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_users_have_keys_of_any_type(database: str) -> None:
    for name, (column_type, key) in KEYS.items():

        def define(db: Any, column_type: Any = column_type) -> Any:
            key_column = db.Column(column_type, primary_key=True, autoincrement=False)
            return model_of(db, id=key_column, mobile=db.Column(db.String(16)))

        with host(database, define) as (app, db, model):
            users = app.extensions["smsverify"].users
            with app.app_context():
                user = model(id=key)
                db.session.add(user)
                db.session.flush()
                as_new = users.id_of(user)
                db.session.commit()
                db.session.expunge_all()
                read = db.session.scalars(sa.select(model)).one()
                assert users.id_of(read) == as_new, name
                db.session.expunge_all()
                assert users.find(as_new) is not None, name
                assert users.find("not a key \N{SNOWMAN}") is None or name in ("CHAR",), name
            walk(app, as_new)
            with app.app_context():
                assert db.session.scalars(sa.select(model.mobile)).one() == OTHER, name


def test_a_composite_key_is_refused_with_its_columns(sqlite: str) -> None:
    def define(db: Any) -> Any:
        return model_of(
            db,
            tenant_id=db.Column(db.Integer, primary_key=True),
            mobile=db.Column(db.String(16)),
        )

    with pytest.raises(ConfigurationError, match=r"several columns \(tenant_id, id\)|\(id, tenant"):
        host(sqlite, define).__enter__()


@pytest.mark.parametrize("kind", [sa.Date, sa.DateTime, sa.Time])
@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_key_that_cannot_be_text_is_refused_at_start(database: str, kind: Any) -> None:
    def define(db: Any) -> Any:
        return model_of(db, id=db.Column(kind, primary_key=True), mobile=db.Column(db.String(16)))

    with pytest.raises(ConfigurationError, match="primary key of User is a"):
        host(database, define).__enter__()


# --- columns that can keep a mobile ---------------------------------------------------------------


class Digits(TypeDecorator[str]):
    """E.164 as a number."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value.lstrip("+"))

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else f"+{value}"


class Reversed(TypeDecorator[str]):
    """Stands for an encrypted column."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value[::-1].encode()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else bytes(value).decode()[::-1]


GOOD_COLUMNS = {
    "PhoneNumberType": PhoneNumberType(),
    "PhoneNumberType of a region": PhoneNumberType(region="IR", max_length=16),
    "digits": Digits(),
    "encrypted": Reversed(),
    "String(13)": sa.String(13),
    "Text": sa.Text(),
}


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_columns_of_many_types_keep_a_mobile(database: str) -> None:
    for column_type in GOOD_COLUMNS.values():

        def define(db: Any, column_type: Any = column_type) -> Any:
            return model_of(db, mobile=db.Column(column_type))

        with host(database, define) as (app, db, model):
            with app.app_context():
                db.session.add(model(id=1))
                db.session.commit()
            client = walk(app, "1")
            with app.app_context():
                user = db.session.get(model, 1)
                assert app.extensions["smsverify"].users.mobile_of(user) == OTHER
            assert client.get("/guarded").text == "guarded"


# --- what the host cannot keep --------------------------------------------------------------------


def _property(db: Any) -> Any:
    return model_of(db, mobile=property(lambda _self: None))


def _hybrid(db: Any) -> Any:
    return model_of(
        db,
        phone=db.Column(db.String(16)),
        mobile=hybrid_property(lambda self: self.phone),
    )


def _expression(db: Any) -> Any:
    return model_of(db, mobile=db.column_property(sa.literal("+989123450001")))


BAD_COLUMNS = {
    "String(11)": (lambda db: model_of(db, mobile=db.Column(db.String(11))), "11 characters"),
    "BigInteger": (lambda db: model_of(db, mobile=db.Column(db.BigInteger)), "BigInteger"),
    "Integer": (lambda db: model_of(db, mobile=db.Column(db.Integer)), "Integer"),
    "property": (_property, "read-only"),
    "hybrid": (_hybrid, "read-only"),
    "expression": (_expression, "no plain column"),
    "computed": (
        lambda db: model_of(db, mobile=db.Column(db.String(16), sa.Computed("'+98'"))),
        "computed by the database",
    ),
    "unmapped": (lambda db: model_of(db, mobile=None), "no column"),
}


@pytest.mark.parametrize("kind", BAD_COLUMNS)
def test_an_attribute_that_cannot_keep_a_mobile_stops_the_start(sqlite: str, kind: str) -> None:
    define, words = BAD_COLUMNS[kind]
    with pytest.raises(ConfigurationError) as caught:
        host(sqlite, define).__enter__()
    assert "User.mobile" in str(caught.value)
    assert words in str(caught.value)
    assert "@smsverify.mobile_setter" in str(caught.value)


def test_a_setter_may_convert_the_mobile_for_a_short_column(sqlite: str) -> None:
    def prepare(smsverify: SMSVerify) -> None:
        @smsverify.mobile_setter
        def set_mobile(user: Any, mobile: str) -> None:
            user.mobile = "0" + mobile.removeprefix("+98")

    define = BAD_COLUMNS["String(11)"][0]
    with host(sqlite, define, prepare=prepare) as (app, db, model):
        with app.app_context():
            db.session.add(model(id=1))
            db.session.commit()
        walk(app, "1")
        with app.app_context():
            assert db.session.get(model, 1).mobile == OTHER_NATIONAL


UNIQUE = {
    "unique=True": lambda db: model_of(db, mobile=db.Column(db.String(16), unique=True)),
    "UniqueConstraint": lambda db: model_of(
        db,
        mobile=db.Column(db.String(16)),
        __table_args__=(sa.UniqueConstraint("mobile", name="one_each"),),
    ),
    "Index": lambda db: model_of(
        db,
        mobile=db.Column(db.String(16)),
        __table_args__=(sa.Index("ix_one_each", "mobile", unique=True),),
    ),
}


@pytest.mark.parametrize("kind", UNIQUE)
@pytest.mark.parametrize(
    "setting", [{"SMSVERIFY_MOBILE_POLICY": "transfer"}, {"SMSVERIFY_ACCOUNTS_PER_MOBILE": 2}]
)
def test_a_unique_column_beside_a_setting_that_needs_two_rows_stops_the_start(
    sqlite: str, kind: str, setting: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"users\.mobile is UNIQUE") as caught:
        host(sqlite, UNIQUE[kind], **setting).__enter__()
    assert next(iter(setting)) in str(caught.value)


@pytest.mark.parametrize("database", database_params(), indirect=True)
@pytest.mark.parametrize("where", ["model", "database"])
def test_a_check_that_refuses_the_mobile_is_found_before_a_code_is_sent(
    database: str, where: str
) -> None:
    check = sa.CheckConstraint("mobile LIKE '09%'", name="ck_national")

    def define(db: Any) -> Any:
        arguments = (check,) if where == "model" else ()
        return model_of(db, mobile=db.Column(db.String(16)), __table_args__=arguments)

    with host(database, define) as (app, db, model):
        with app.app_context():
            if where == "database":
                if db.engine.dialect.name == "sqlite":
                    pytest.skip("SQLite adds no constraint to a table")
                db.session.execute(
                    sa.text("ALTER TABLE users ADD CONSTRAINT ck_mobile CHECK (mobile LIKE '09%')")
                )
            db.session.add(model(id=1))
            db.session.commit()
        client = app.test_client()
        client.get("/login/1")
        with pytest.raises(ConfigurationError, match=r"User\.mobile \(ck_"):
            client.post(MOBILE, data={"mobile": OTHER_NATIONAL, "send": "1"})
        assert not app.extensions["smsverify"].delivery.routes.senders["memory"].messages


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_a_column_that_is_shorter_in_the_database_is_found_before_a_code_is_sent(
    database: str,
) -> None:
    def define(db: Any) -> Any:
        return model_of(db, mobile=db.Column(db.String(16)))

    with host(database, define) as (app, db, model):
        with app.app_context():
            is_postgresql = db.engine.dialect.name == "postgresql"
            change = "ALTER COLUMN mobile TYPE" if is_postgresql else "MODIFY mobile"
            db.session.execute(sa.text(f"ALTER TABLE users {change} VARCHAR(11)"))
            db.session.add(model(id=1))
            db.session.commit()
        client = app.test_client()
        client.get("/login/1")
        with pytest.raises(ConfigurationError, match=r"User\.mobile"):
            client.post(MOBILE, data={"mobile": OTHER_NATIONAL, "send": "1"})


TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER national BEFORE UPDATE ON users WHEN NEW.mobile LIKE '+%' "
        "BEGIN SELECT RAISE(ABORT, 'national only'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger AS $$ BEGIN "
        "IF NEW.mobile LIKE '+%' THEN RAISE EXCEPTION 'national only'; END IF; "
        "RETURN NEW; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER national BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
    "mysql": (
        "CREATE TRIGGER national BEFORE UPDATE ON users FOR EACH ROW BEGIN "
        "IF NEW.mobile LIKE '+%' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'national only'; "
        "END IF; END",
    ),
}


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_trigger_that_refuses_the_mobile_is_found_before_a_code_is_sent(database: str) -> None:
    def define(db: Any) -> Any:
        return model_of(db, mobile=db.Column(db.String(16)))

    with host(database, define) as (app, db, model):
        with app.app_context():
            for statement in TRIGGERS[db.engine.dialect.name]:
                db.session.connection().execute(sa.text(statement))
            db.session.add(model(id=1))
            db.session.commit()
        client = app.test_client()
        client.get("/login/1")
        with pytest.raises(ConfigurationError, match=r"number in E\.164 in User\.mobile") as caught:
            client.post(MOBILE, data={"mobile": OTHER_NATIONAL, "send": "1"})
        assert OTHER not in str(caught.value)
        assert not app.extensions["smsverify"].delivery.routes.senders["memory"].messages


@pytest.mark.parametrize("database", database_params("postgresql"), indirect=True)
def test_another_error_of_the_database_does_not_show_the_mobile(database: str) -> None:
    def define(db: Any) -> Any:
        return model_of(db, mobile=db.Column(db.String(16)))

    with host(database, define) as (app, db, model):
        users = app.extensions["smsverify"].users
        with app.app_context():
            for change in (
                "DROP COLUMN mobile",
                "ADD COLUMN mobile VARCHAR(16) GENERATED ALWAYS AS ('') STORED",
            ):
                db.session.execute(sa.text(f"ALTER TABLE users {change}"))
            db.session.execute(sa.text("INSERT INTO users (id) VALUES (1)"))
            db.session.commit()
        client = app.test_client()
        client.get("/login/1")
        with pytest.raises(sa.exc.ProgrammingError, match="to DEFAULT") as caught:
            client.post(MOBILE, data={"mobile": OTHER_NATIONAL, "send": "1"})
        assert OTHER not in str(caught.value)
        with app.app_context():
            users.write_mobile(db.session.get(model, 1), OTHER)
            with pytest.raises(sa.exc.ProgrammingError, match="to DEFAULT") as caught:
                users.flush()  # as a claim does
        assert OTHER not in str(caught.value)


def test_a_model_that_refuses_the_mobile_is_found_before_a_code_is_sent(sqlite: str) -> None:
    def define(db: Any) -> Any:
        def national_only(_self: Any, _name: str, value: str | None) -> str | None:
            if value is not None and not value.startswith("09"):
                raise ValueError(f"{value} is not national")
            return value

        return model_of(
            db,
            mobile=db.Column(db.String(16)),
            national_only=sa.orm.validates("mobile")(national_only),
        )

    with host(sqlite, define) as (app, db, model):
        with app.app_context():
            db.session.add(model(id=1))
            db.session.commit()
        client = app.test_client()
        client.get("/login/1")
        with pytest.raises(ConfigurationError, match=r"User\.mobile cannot be set") as caught:
            client.post(MOBILE, data={"mobile": OTHER_NATIONAL, "send": "1"})
        assert OTHER not in str(caught.value)


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_constraint_about_something_else_is_not_another_account(database: str) -> None:
    """The commit that stores the mobile also writes what the host has changed on the user."""

    def define(db: Any) -> Any:
        nick = db.Column(db.String(16), unique=True)
        return model_of(db, mobile=db.Column(db.String(16)), nick=nick)

    with host(database, define) as (app, db, model):
        with app.app_context():
            db.session.add_all([model(id=1, nick="a"), model(id=2, nick="b")])
            db.session.commit()

        @sa.event.listens_for(model, "before_update")
        def rename(_mapper: Any, _connection: Any, user: Any) -> None:
            if app.config.get("RENAME"):
                user.nick = "b"

        client = app.test_client()
        client.get("/login/1")
        client.post(MOBILE, data={"mobile": OTHER_NATIONAL, "send": "1"})
        app.config["RENAME"] = True
        with pytest.raises(ConfigurationError, match="not about") as caught:
            client.post(CHECK, data={"code": last_code(app)})
        assert "nick" in str(caught.value)
        assert OTHER not in str(caught.value)
        assert client.get("/guarded").status_code == 302


# --- migrations -------------------------------------------------------------------------------


@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_a_migration_has_types_of_mysql_for_mysql_alone(database: str) -> None:
    def define(db: Any) -> Any:
        return model_of(db, mobile=db.Column(db.String(16)))

    with host(database, define) as (app, db, _model), app.app_context():
        db.drop_all()
        with db.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            script = produce_migrations(context, db.metadata)
        assert script.upgrade_ops is not None
        code = render_python_code(script.upgrade_ops)
        assert "smsverify_verification" in code
        assert "flask_smsverify" not in code
        assert ("mysql" in code) is (db.engine.dialect.name == "mysql")


# --- the row counts -------------------------------------------------------------------------------


def _expunged(db: Any, model: Any, key: str) -> Any:
    user = db.session.get(model, int(key))
    db.session.refresh(user)
    db.session.expunge(user)
    return user


CACHE: dict[Any, Any] = {}


def _cached(db: Any, model: Any, key: str) -> Any:
    if (model, key) not in CACHE:
        CACHE[model, key] = _expunged(db, model, key)
    return CACHE[model, key]


SESSIONS: list[Any] = []


def _other_session(db: Any, model: Any, key: str) -> Any:
    SESSIONS.append(sa.orm.Session(db.engine))
    return SESSIONS[-1].get(model, int(key))


def _without_mobile(db: Any, model: Any, key: str) -> Any:
    only_key = sa.orm.load_only(model.id, raiseload=True)
    return db.session.get(model, int(key), options=[only_key])


LOADERS = {
    "without the mobile": _without_mobile,
    "expunged": _expunged,
    "cached": _cached,
    "of another session": _other_session,
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("database", database_params(), indirect=True)
def test_the_row_counts_whatever_the_user_loader_returns(database: str, kind: str) -> None:
    def define(db: Any) -> Any:
        return model_of(db, mobile=db.Column(db.String(16)), group=db.Column(db.String(8)))

    with host(database, define, loader=LOADERS[kind]) as (app, db, model):
        with app.app_context():
            db.session.add(model(id=1))
            db.session.commit()
        client = walk(app, "1")
        for session in SESSIONS:
            session.close()  # or its transaction keeps the table from being dropped
        with app.app_context():
            assert db.session.get(model, 1).mobile == OTHER
            db.session.get(model, 1).mobile = None
            db.session.commit()
        if kind != "of another session":
            assert client.get("/guarded").status_code == 302
        CACHE.clear()
        for session in SESSIONS:
            session.close()
        SESSIONS.clear()
