"""The tables, on a declarative base of our own.

`install` copies them into a host's metadata, so that its `create_all` and its migrations see
them, in its schema. Column types of our own hold what databases otherwise bend: times that keep
zone and microseconds, names that compare by bytes, keys that are plain ASCII, text of any script.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import DateTime, Index, MetaData, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.schema import SchemaConst
from sqlalchemy.types import TypeDecorator

from .phone import mask


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC with microseconds, on every database.

    MariaDB keeps no zone and by default no microseconds, SQLite keeps no zone; there the zone is
    dropped on the way in and UTC put back on the way out. A naive time is refused.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:  # SQLAlchemy's own signature
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _by_bytes(length: int) -> String:
    """Text that compares by bytes: MariaDB's default collation takes `aB3` for `áb3`."""
    exact = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


def _ascii(length: int) -> String:
    """Text of ASCII letters and digits, compared by bytes, with an index no longer than it."""
    exact = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


def _any_text() -> Text:
    """Text of any script, also on a MariaDB whose own character set has no room for it."""
    return Text().with_variant(mysql.TEXT(charset="utf8mb4"), "mysql", "mariadb")


#: A user's primary key as text.
UserId = _by_bytes(191)


class Base(DeclarativeBase):
    """The base of our tables only; a host's models stay on its own."""

    type_annotation_map: ClassVar = {datetime: UtcDateTime}


class Verification(Base):
    """A user's standing, from the first challenge on. `verified_at` None: nothing proved yet."""

    __tablename__ = "smsverify_verification"
    __table_args__ = (
        Index("ix_smsverify_verification_mobile", "mobile"),
        Index("ix_smsverify_verification_verified_at", "verified_at"),
    )

    user_id: Mapped[str] = mapped_column(UserId, primary_key=True)
    #: E.164: the mobile that was proved last, or None before any proof.
    mobile: Mapped[str | None] = mapped_column(_ascii(16))
    verified_at: Mapped[datetime | None]
    #: When the proof was written here; later than `verified_at` where a token carried it.
    granted_at: Mapped[datetime | None]
    #: `sms`, `voice`, or `staff` where a person vouched for it.
    channel: Mapped[str | None] = mapped_column(_ascii(8))
    #: The sender that brought the code, or who vouched.
    sender: Mapped[str | None] = mapped_column(_by_bytes(191))
    revoked_at: Mapped[datetime | None]
    #: Codes compared since the last right one.
    failures: Mapped[int] = mapped_column(default=0)
    locked_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    def __repr__(self) -> str:
        shown = mask(self.mobile) if self.mobile else "no mobile"
        return f"<Verification of user {self.user_id}: {shown}>"


class Challenge(Base):
    """One question "do you hold this mobile?". The code is not here: it is derived."""

    __tablename__ = "smsverify_challenge"
    __table_args__ = (
        Index("ix_smsverify_challenge_user", "user_id", "purpose", "created_at"),
        Index("ix_smsverify_challenge_created_at", "created_at"),
    )

    PENDING, VERIFIED, EXPIRED = "pending", "verified", "expired"
    EXHAUSTED, SUPERSEDED, CANCELLED = "exhausted", "superseded", "cancelled"

    #: 128 random bits in hexadecimal; public.
    id: Mapped[str] = mapped_column(_ascii(32), primary_key=True)
    #: None where a mobile is proved before there is an account.
    user_id: Mapped[str | None] = mapped_column(UserId)
    mobile: Mapped[str] = mapped_column(_ascii(16))
    #: The user's own mobile when this began; a change of it since makes the challenge void.
    user_mobile: Mapped[str | None] = mapped_column(_ascii(16))
    purpose: Mapped[str] = mapped_column(_by_bytes(64))
    #: Which key the code is derived from, the code's length and its generation.
    key_id: Mapped[str] = mapped_column(_ascii(8))
    code_length: Mapped[int]
    generation: Mapped[int] = mapped_column(default=0)
    #: Whether a code of ours may be on its way; before that, ours is not taken.
    own_sent: Mapped[bool] = mapped_column(default=False)
    #: The one sender whose native code is taken, if any.
    native_sender: Mapped[str | None] = mapped_column(_by_bytes(64))
    channel: Mapped[str] = mapped_column(_ascii(8))
    attempts: Mapped[int] = mapped_column(default=0)
    sends: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(_ascii(16), default=PENDING)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    resend_at: Mapped[datetime]
    #: A digest of user and purpose while open: one open challenge each. Partial indexes, which
    #: would say the same, are not known to MariaDB.
    open_key: Mapped[str | None] = mapped_column(_ascii(64), unique=True)
    #: A digest of native sender and mobile until the native code has died: one each.
    native_key: Mapped[str | None] = mapped_column(_ascii(64), unique=True)
    #: Budget units to give back when this is proved, as JSON.
    returnable: Mapped[str] = mapped_column(Text, default="[]")

    def __repr__(self) -> str:
        return f"<Challenge {self.id[:8]}… {self.state}>"


class Message(Base):
    """One SMS or call, whatever it was for. The text of a code is never kept."""

    __tablename__ = "smsverify_message"
    __table_args__ = (
        Index("ix_smsverify_message_challenge", "challenge_id", "created_at"),
        Index("ix_smsverify_message_created_at", "created_at"),
        Index("ix_smsverify_message_recipient", "recipient", "created_at"),
        Index("ix_smsverify_message_gateway_id", "gateway_id"),
    )

    SENDING, FAILED = "sending", "failed"

    id: Mapped[str] = mapped_column(_ascii(32), primary_key=True)
    #: `code` or `native_code`; the kinds of ordinary texts join them with the outbox.
    kind: Mapped[str] = mapped_column(_ascii(16))
    challenge_id: Mapped[str | None] = mapped_column(_ascii(32))
    user_id: Mapped[str | None] = mapped_column(UserId)
    recipient: Mapped[str] = mapped_column(_ascii(16))
    channel: Mapped[str] = mapped_column(_ascii(8))
    sender: Mapped[str] = mapped_column(_by_bytes(64))
    gateway_id: Mapped[str | None] = mapped_column(_by_bytes(128))
    #: `sending` before the gateway's answer, `failed` where none took it, else a `Status`.
    state: Mapped[str] = mapped_column(_ascii(16))
    #: Why it failed, in words without numbers or texts.
    reason: Mapped[str | None] = mapped_column(_by_bytes(191))
    parts: Mapped[int | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Message {self.id[:8]}… {self.kind} by {self.sender}: {self.state}>"


class Incoming(Base):
    """A message from a phone to one of our lines."""

    __tablename__ = "smsverify_incoming"
    __table_args__ = (
        Index("ix_smsverify_incoming_received_at", "received_at"),
        Index("ix_smsverify_incoming_originator", "originator", "received_at"),
    )

    #: A digest of sender and gateway id: the same message, told twice, is one row.
    id: Mapped[str] = mapped_column(_ascii(32), primary_key=True)
    sender: Mapped[str] = mapped_column(_by_bytes(64))
    #: Who wrote: E.164 where it is a mobile, else as the gateway gave it.
    originator: Mapped[str] = mapped_column(_by_bytes(64))
    #: The line it was sent to, as the gateway gave it.
    line: Mapped[str] = mapped_column(_by_bytes(64))
    text: Mapped[str] = mapped_column(_any_text())
    #: By the gateway; the time we heard of it, where the gateway gave none.
    received_at: Mapped[datetime]
    read_at: Mapped[datetime | None]

    def __repr__(self) -> str:
        return f"<Incoming {self.id[:8]}… by {self.sender}>"


class EarlyReport(Base):
    """A delivery report that came before the receipt of its message was written down."""

    __tablename__ = "smsverify_early_report"
    __table_args__ = (Index("ix_smsverify_early_report_until", "until"),)

    #: A digest of sender and gateway id.
    id: Mapped[str] = mapped_column(_ascii(32), primary_key=True)
    state: Mapped[str] = mapped_column(_ascii(16))
    until: Mapped[datetime]


class Budget(Base):
    """What one key has spent in one scope, in the slices of each of its windows."""

    __tablename__ = "smsverify_budget"
    __table_args__ = (Index("ix_smsverify_budget_used_at", "used_at"),)

    #: A keyed digest of scope and key: the table outlives the users it counts.
    id: Mapped[str] = mapped_column(_ascii(40), primary_key=True)
    scope: Mapped[str] = mapped_column(_ascii(24))
    #: JSON, written by `verification.budgets` alone.
    spent: Mapped[str] = mapped_column(Text)
    used_at: Mapped[datetime]


class UsedToken(Base):
    """A proof token, or a native code, that was used and may not be used again."""

    __tablename__ = "smsverify_used_token"
    __table_args__ = (Index("ix_smsverify_used_token_until", "until"),)

    digest: Mapped[str] = mapped_column(_ascii(64), primary_key=True)
    until: Mapped[datetime]


def install(metadata: MetaData) -> None:
    """Copy our tables into a host's metadata, in its schema; twice is the same as once.

    The copies are for `create_all` and for migrations, which must need no import of ours, so they
    have SQLAlchemy's plain types.
    """
    for table in Base.metadata.sorted_tables:
        name = f"{metadata.schema}.{table.name}" if metadata.schema else table.name
        if name in metadata.tables:
            continue
        copy = table.to_metadata(metadata, schema=metadata.schema or SchemaConst.RETAIN_SCHEMA)
        for column in copy.columns:
            if isinstance(column.type, UtcDateTime):
                column.type = DateTime(timezone=True).with_variant(
                    mysql.DATETIME(fsp=6), "mysql", "mariadb"
                )
