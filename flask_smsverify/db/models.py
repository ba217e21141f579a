"""The tables, on a declarative base of this package.

`install` copies them into the metadata of the host's Flask-SQLAlchemy object, so that
`db.create_all()` and `flask db migrate` include them. A row's `repr` shows no code, no text and no
whole mobile.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar, cast

from sqlalchemy import BigInteger, Computed, Index, Integer, MetaData, Table, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.schema import SchemaConst

from ..phone import mask
from .ids import shorten
from .types import ExactDecimal, UtcDateTime, ascii_text, exact_text, long_text, plain_type

#: A key that the database numbers. SQLite numbers an INTEGER key only.
SerialKey = BigInteger().with_variant(Integer, "sqlite")
#: A user's primary key as text.
UserId = exact_text(191)


def _last_four(column: str) -> Computed:
    """Return the last four characters of a column, computed by the database.

    Staff search by them, and an index cannot serve a pattern that begins with a wildcard. The
    expression is the same on every database; `right` does not exist on SQLite.
    """
    return Computed(f"substr({column}, length({column}) - 3)", persisted=True)


def _partial_index(name: str, *columns: str, where: str | None = None) -> Index:
    """Return an index of the rows in which a column has a value.

    It serves queries that compare this column, or require that it is not NULL. MySQL and MariaDB
    index all rows.

    :param where: the column; by default the first.
    """
    has_value = text(f"{where or columns[0]} IS NOT NULL")
    return Index(name, *columns, postgresql_where=has_value, sqlite_where=has_value)


class Base(DeclarativeBase):
    """The declarative base of these tables. A host's models have their own."""

    type_annotation_map: ClassVar = {datetime: UtcDateTime}


class Verification(Base):
    """A user's verification. The row is created with the user's first challenge.

    `verified_at` is None until the user has proved a mobile.
    """

    __tablename__ = "smsverify_verification"
    __table_args__ = (
        Index("ix_smsverify_verification_mobile", "mobile"),
        # The orders of the staff's list, and its search by the last four digits.
        Index("ix_smsverify_verification_created_at", "created_at", "user_id"),
        Index("ix_smsverify_verification_verified_at", "verified_at", "user_id"),
        _partial_index("ix_smsverify_verification_revoked_at", "revoked_at", "user_id"),
        _partial_index("ix_smsverify_verification_locked_at", "locked_at", "user_id"),
        Index("ix_smsverify_verification_mobile_end", "mobile_end", "user_id"),
    )

    user_id: Mapped[str] = mapped_column(UserId, primary_key=True)
    #: The mobile that was proved last, in E.164; None before the first proof.
    mobile: Mapped[str | None] = mapped_column(ascii_text(16))
    mobile_end: Mapped[str | None] = mapped_column(
        ascii_text(4), _last_four("mobile"), deferred=True
    )
    verified_at: Mapped[datetime | None]
    #: When this row got the proof: later than `verified_at` if a proof token was claimed.
    granted_at: Mapped[datetime | None]
    #: `sms` or `voice`; `staff` if a staff member marked the user as verified. None if the
    #: challenge was erased before its proof token was claimed.
    channel: Mapped[str | None] = mapped_column(ascii_text(8))
    #: The name of the sender of the code, or of the staff member. None for a test number, and if
    #: the channel is unknown.
    sender: Mapped[str | None] = mapped_column(exact_text(191))
    revoked_at: Mapped[datetime | None]
    #: When `within` starts to count this proof; None if it always has.
    settled_at: Mapped[datetime | None]
    #: The last revocation that a proof has ended: device tokens that are older stay void.
    devices_from: Mapped[datetime | None]
    #: Guesses since the last right one.
    failures: Mapped[int] = mapped_column(default=0)
    locked_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    def __repr__(self) -> str:
        shown = mask(self.mobile) if self.mobile else "no mobile"
        return f"<Verification of user {self.user_id}: {shown}>"


class Challenge(Base):
    """One open question "do you control this mobile?". The code is derived, not stored."""

    __tablename__ = "smsverify_challenge"
    __table_args__ = (
        Index("ix_smsverify_challenge_user", "user_id", "purpose", "created_at"),
        Index("ix_smsverify_challenge_created_at", "created_at"),
        Index("ix_smsverify_challenge_mobile_end", "mobile_end", "user_id"),
    )

    PENDING, VERIFIED, EXPIRED = "pending", "verified", "expired"
    EXHAUSTED, SUPERSEDED, CANCELLED = "exhausted", "superseded", "cancelled"

    #: From `new_id`. Not a secret.
    id: Mapped[str] = mapped_column(ascii_text(32), primary_key=True)
    #: None if the mobile is proved before an account exists.
    user_id: Mapped[str | None] = mapped_column(UserId)
    mobile: Mapped[str] = mapped_column(ascii_text(16))
    mobile_end: Mapped[str | None] = mapped_column(
        ascii_text(4), _last_four("mobile"), deferred=True
    )
    #: The user's own mobile at the start. The challenge is void once the user has another one.
    user_mobile: Mapped[str | None] = mapped_column(ascii_text(16))
    purpose: Mapped[str] = mapped_column(exact_text(64))
    #: Whether it was started without an account, on a device of the mobile's owner. Its guesses
    #: count apart from those of others. The default is for rows that are older than the column.
    by_device: Mapped[bool] = mapped_column(default=False, server_default="0")
    #: The code is derived from this key. With `RESEND = "new"`, each send has a new generation.
    key_id: Mapped[str] = mapped_column(ascii_text(8))
    code_length: Mapped[int]
    generation: Mapped[int] = mapped_column(default=0)
    #: Whether an own code may have been sent. Until then, own codes are not accepted.
    own_sent: Mapped[bool] = mapped_column(default=False)
    #: The sender whose native code is accepted.
    native_sender: Mapped[str | None] = mapped_column(exact_text(64))
    channel: Mapped[str] = mapped_column(ascii_text(8))
    attempts: Mapped[int] = mapped_column(default=0)
    sends: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(ascii_text(16), default=PENDING)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    resend_at: Mapped[datetime]
    #: A digest of user and purpose while the challenge is open: at most one is open for each.
    #: Otherwise the challenge's own id. MariaDB has no partial index that could hold the same rule,
    #: and SQLite would scan a column that is mostly NULL.
    open_key: Mapped[str] = mapped_column(ascii_text(64), unique=True)
    #: A digest of native sender and mobile while the gateway may accept its code: one for each.
    #: Otherwise the challenge's own id.
    native_key: Mapped[str] = mapped_column(ascii_text(64), unique=True)

    def close(self, state: str) -> None:
        """Give the challenge a final state, so that another one can be open."""
        self.state, self.open_key = state, self.id

    def __repr__(self) -> str:
        return f"<Challenge {shorten(self.id)} {self.state}>"


class MobileChange(Base):
    """A change of a proved mobile, created with the proof of the new one."""

    __tablename__ = "smsverify_mobile_change"
    __table_args__ = (
        Index("ix_smsverify_mobile_change_user", "user_id"),
        Index("ix_smsverify_mobile_change_proved_at", "proved_at"),
    )

    #: Open: the old number must confirm, or the delay has started.
    CONFIRMING, DELAYED = "confirming", "delayed"
    APPLIED, CANCELLED, UNDONE = "applied", "cancelled", "undone"

    #: From `new_id`. Not a secret: links to undo a change are signed.
    id: Mapped[str] = mapped_column(ascii_text(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(UserId)
    old_mobile: Mapped[str] = mapped_column(ascii_text(16))
    new_mobile: Mapped[str] = mapped_column(ascii_text(16))
    #: How the new mobile was proved, and when.
    channel: Mapped[str] = mapped_column(ascii_text(8))
    sender: Mapped[str | None] = mapped_column(exact_text(191))
    proved_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(ascii_text(16))
    #: When the delay is over; None if none has started.
    applies_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    #: A digest of the user while the change is open, then its own id: at most one is open.
    open_key: Mapped[str] = mapped_column(ascii_text(64), unique=True)

    @property
    def is_open(self) -> bool:
        """Whether the change can still be applied."""
        return self.state in (self.CONFIRMING, self.DELAYED)

    def __repr__(self) -> str:
        return f"<MobileChange {shorten(self.id)} {self.state}>"


class Message(Base):
    """One text or call to one recipient. The text of a code is never stored.

    Messages of the kinds `event` and `bulk` wait here until a worker sends them: the outbox. Such a
    row is due if `next_try_at` has come. A worker that takes it moves `next_try_at` to the end of
    its lease, so the row is due again if the worker dies.
    """

    __tablename__ = "smsverify_message"
    __table_args__ = (
        Index("ix_smsverify_message_challenge", "challenge_id", "created_at"),
        # The orders of the staff's list. `id` orders the texts of a send, which share a time. A
        # filter by kind or by state alone is one look for each state or each kind.
        Index("ix_smsverify_message_created_at", "created_at", "id"),
        Index("ix_smsverify_message_kind_state", "kind", "state", "created_at", "id"),
        _partial_index("ix_smsverify_message_batch_state", "batch_id", "state", "created_at", "id"),
        Index("ix_smsverify_message_recipient", "recipient", "created_at"),
        _partial_index("ix_smsverify_message_user", "user_id"),
        _partial_index("ix_smsverify_message_due", "kind", "next_try_at", where="next_try_at"),
        _partial_index("ix_smsverify_message_batch", "batch_id", "next_try_at"),
    )

    CODE, NOTICE, EVENT, BULK = "code", "notice", "event", "bulk"
    #: The states of an outbox row in addition to those of attempts.
    WAITING, EXPIRED, SKIPPED = "waiting", "expired", "skipped"

    id: Mapped[str] = mapped_column(ascii_text(32), primary_key=True)
    #: `code`, `notice`, `event` or `bulk`.
    kind: Mapped[str] = mapped_column(ascii_text(16))
    #: The event of a notice or an event text, such as `mobile.changed`; None for the other kinds.
    event: Mapped[str | None] = mapped_column(ascii_text(64))
    #: `user` or `staff`, for an event text.
    audience: Mapped[str | None] = mapped_column(ascii_text(8))
    challenge_id: Mapped[str | None] = mapped_column(ascii_text(32))
    user_id: Mapped[str | None] = mapped_column(UserId)
    recipient: Mapped[str] = mapped_column(ascii_text(16))
    channel: Mapped[str] = mapped_column(ascii_text(8))
    #: The text of an event or bulk message; None for the other kinds.
    text: Mapped[str | None] = mapped_column(long_text())
    #: The language of the text.
    locale: Mapped[str | None] = mapped_column(ascii_text(16))
    #: Sender → its approved pattern and values, as JSON.
    patterns: Mapped[str | None] = mapped_column(long_text())
    #: The batch of a bulk message.
    batch_id: Mapped[str | None] = mapped_column(ascii_text(32))
    #: The best state of its attempts, by the order of `delivery.states.best`; before the first and
    #: between two tries `waiting`; `expired` or `skipped` if it is not sent at all.
    state: Mapped[str] = mapped_column(ascii_text(16))
    #: Why it was skipped or failed, without mobiles and texts.
    cause: Mapped[str | None] = mapped_column(exact_text(191))
    #: Number of SMS parts; None for a call and for a text that the gateway composes.
    parts: Mapped[int | None]
    #: How often the route was walked.
    tries: Mapped[int] = mapped_column(default=0)
    #: When an outbox row is due; None if nothing is to be done any more.
    next_try_at: Mapped[datetime | None]
    #: The random token of the lease under which a worker holds the row.
    lease: Mapped[str | None] = mapped_column(ascii_text(32))
    not_before: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    #: A digest that makes a second message with the same key impossible.
    dedupe_key: Mapped[str | None] = mapped_column(ascii_text(64), unique=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Message {shorten(self.id)} {self.kind}: {self.state}>"


class Attempt(Base):
    """One try to send a message through one sender."""

    __tablename__ = "smsverify_attempt"
    __table_args__ = (
        Index("ix_smsverify_attempt_message", "message_id", "created_at"),
        _partial_index("ix_smsverify_attempt_gateway_id", "gateway_id"),
        Index("ix_smsverify_attempt_created_at", "created_at"),
        _partial_index(
            "ix_smsverify_attempt_check", "sender", "next_check_at", where="next_check_at"
        ),
    )

    SENDING, FAILED = "sending", "failed"

    id: Mapped[str] = mapped_column(ascii_text(32), primary_key=True)
    message_id: Mapped[str] = mapped_column(ascii_text(32))
    #: The sender's name in `SMSVERIFY_SENDERS`.
    sender: Mapped[str] = mapped_column(exact_text(64))
    #: Whether the gateway generated the code.
    native: Mapped[bool] = mapped_column(default=False)
    gateway_id: Mapped[str | None] = mapped_column(exact_text(128))
    #: The reference that the gateway got with the call, equal for all texts of one call.
    call_reference: Mapped[str | None] = mapped_column(ascii_text(32))
    #: `sending` until the gateway has answered, `failed` if it refused, otherwise a
    #: `senders.base.DeliveryState`.
    state: Mapped[str] = mapped_column(ascii_text(16))
    #: Why it failed, without mobiles and texts.
    cause: Mapped[str | None] = mapped_column(exact_text(191))
    #: What the message cost, in the gateway's unit; None if the gateway has not said.
    cost: Mapped[Decimal | None] = mapped_column(ExactDecimal(32))
    #: How often the gateway was asked for the state, and when to ask next; None: do not ask.
    checks: Mapped[int] = mapped_column(default=0)
    next_check_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Attempt {shorten(self.id)} by {self.sender}: {self.state}>"


class Incoming(Base):
    """A message from a phone to the line of a sender."""

    __tablename__ = "smsverify_incoming"
    __table_args__ = (
        Index("ix_smsverify_incoming_received_at", "received_at"),
        Index("ix_smsverify_incoming_read_at", "read_at", "received_at"),
        Index("ix_smsverify_incoming_originator", "originator", "received_at"),
    )

    #: A digest of sender and gateway id, so that a message that is reported twice is one row.
    id: Mapped[str] = mapped_column(ascii_text(32), primary_key=True)
    sender: Mapped[str] = mapped_column(exact_text(64))
    #: The author's number: E.164 if it is a mobile, otherwise as the gateway gave it.
    originator: Mapped[str] = mapped_column(exact_text(64))
    #: The number that it was sent to, as the gateway gave it.
    line: Mapped[str] = mapped_column(exact_text(64))
    text: Mapped[str] = mapped_column(long_text())
    #: The gateway's time; the time of the webhook if the gateway gave none.
    received_at: Mapped[datetime]
    read_at: Mapped[datetime | None]

    def __repr__(self) -> str:
        return f"<Incoming {shorten(self.id)} by {self.sender}>"


class Template(Base):
    """An edited text of an event, or another change of staff to the event for one audience."""

    __tablename__ = "smsverify_template"

    event: Mapped[str] = mapped_column(ascii_text(64), primary_key=True)
    #: `user` or `staff`.
    audience: Mapped[str] = mapped_column(ascii_text(8), primary_key=True)
    #: The language of `text`. The row with an empty locale has `enabled`, `recipients` and
    #: `patterns`, which are the same for all languages.
    locale: Mapped[str] = mapped_column(ascii_text(16), primary_key=True)
    text: Mapped[str | None] = mapped_column(long_text())
    enabled: Mapped[bool] = mapped_column(default=True)
    #: A JSON list of mobiles in E.164; None for the staff's mobiles.
    recipients: Mapped[str | None] = mapped_column(Text)
    #: JSON: sender → pattern, in place of the sender's pattern in `SMSVERIFY_PATTERNS`.
    patterns: Mapped[str | None] = mapped_column(long_text())
    updated_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Template {self.event} for {self.audience} {self.locale or 'in all languages'}>"


class Batch(Base):
    """One text to many recipients. The counts change together with the states of its messages."""

    __tablename__ = "smsverify_batch"
    __table_args__ = (
        Index("ix_smsverify_batch_created_at", "created_at"),
        Index("ix_smsverify_batch_state", "state", "created_at"),
    )

    #: Recipients are being added; they are sent meanwhile.
    EXPANDING = "expanding"
    RUNNING, PAUSED, STOPPED, DONE = "running", "paused", "stopped", "done"
    #: The recipients ended in an error, and the batch has those before it.
    INCOMPLETE = "incomplete"

    #: From `new_id`. Not a secret.
    id: Mapped[str] = mapped_column(ascii_text(32), primary_key=True)
    name: Mapped[str | None] = mapped_column(exact_text(191))
    text: Mapped[str] = mapped_column(long_text())
    parts: Mapped[int]
    #: `all`, `group:NAME`, `club`, or `list` for other recipients, which cannot be read again.
    source: Mapped[str] = mapped_column(exact_text(191))
    started_by: Mapped[str | None] = mapped_column(exact_text(191))
    state: Mapped[str] = mapped_column(ascii_text(16))
    #: While the batch is paused: the state that it has without the pause.
    paused_phase: Mapped[str | None] = mapped_column(ascii_text(16))
    #: When recipients were added last, so that an interrupted expansion is noticed.
    expanded_at: Mapped[datetime]
    #: Messages that were added, without those that were erased before the end.
    recipients: Mapped[int] = mapped_column(default=0)
    #: Items that are not mobiles, and users without one; numbers that were there before; numbers
    #: that opted out.
    invalid: Mapped[int] = mapped_column(default=0)
    duplicates: Mapped[int] = mapped_column(default=0)
    opted_out: Mapped[int] = mapped_column(default=0)
    #: Messages that were not sent: expired, on the gateway's blacklist, or of a stopped batch.
    skipped: Mapped[int] = mapped_column(default=0)
    sent: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    unknown: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    #: A digest of the caller's key: a second batch with the same key is impossible.
    dedupe_key: Mapped[str | None] = mapped_column(ascii_text(64), unique=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    @property
    def phase(self) -> str:
        """The state that the batch has without a pause."""
        if self.state != self.PAUSED:
            return self.state
        return self.paused_phase or self.RUNNING  # NULL: paused before the column existed

    @phase.setter
    def phase(self, phase: str) -> None:
        if self.state == self.PAUSED:
            self.paused_phase = phase
        else:
            self.state = phase

    def __repr__(self) -> str:
        return f"<Batch {shorten(self.id)} {self.state}>"


class OptOut(Base):
    """A number that opted out of texts."""

    __tablename__ = "smsverify_opt_out"

    mobile: Mapped[str] = mapped_column(ascii_text(16), primary_key=True)
    #: The line that the number wrote to; None if the app recorded it.
    line: Mapped[str | None] = mapped_column(exact_text(64))
    since: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<OptOut of {mask(self.mobile)}>"


class EarlyReport(Base):
    """A delivery report that arrived before the receipt of its attempt was written."""

    __tablename__ = "smsverify_early_report"
    __table_args__ = (Index("ix_smsverify_early_report_until", "until"),)

    #: A digest of sender and gateway id.
    id: Mapped[str] = mapped_column(ascii_text(32), primary_key=True)
    state: Mapped[str] = mapped_column(ascii_text(16))
    until: Mapped[datetime]


class UsageSend(Base):
    """One copy of a code that was passed to a sender, and what it counts against.

    A key is a digest of 64 bits (`Keyring.key`). It is NULL if the send does not count, or does not
    count any more. A send that a gateway refused has other keys, see `SendKeys`. Times are
    milliseconds since 1970. `limits.usage_log` explains how limits are read from these rows.
    """

    __tablename__ = "smsverify_usage_send"
    __table_args__ = (
        Index("ix_smsverify_usage_send_mobile", "mobile", "at"),
        _partial_index("ix_smsverify_usage_send_account", "account", "at"),
        _partial_index("ix_smsverify_usage_send_ip", "ip", "at"),
        _partial_index("ix_smsverify_usage_send_network", "network", "at"),
        _partial_index("ix_smsverify_usage_send_wide", "wide", "at"),
        _partial_index("ix_smsverify_usage_send_cooldown", "cooldown", "at"),
        _partial_index("ix_smsverify_usage_send_challenge", "challenge_id"),
        Index("ix_smsverify_usage_send_site_at", "site_at", "id"),
        Index("ix_smsverify_usage_send_site_count", "site_count"),
        Index("ix_smsverify_usage_send_open_count", "open_count"),
    )

    #: In the order in which the site's limit counts.
    id: Mapped[int] = mapped_column(SerialKey, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    #: Like `at`, but never before that of an earlier row. A reset of the site's limit moves it into
    #: the past.
    site_at: Mapped[int] = mapped_column(BigInteger)
    #: How many sends the site has counted, including this one.
    site_count: Mapped[int] = mapped_column(BigInteger)
    #: The same for sends without evidence.
    open_count: Mapped[int] = mapped_column(BigInteger)
    mobile: Mapped[int | None] = mapped_column(BigInteger)
    #: Whether the reserved half of the mobile's limit was open to it: the account or the device had
    #: proved the mobile last, or nobody had and an account requested the code.
    by_owner: Mapped[bool]
    account: Mapped[int | None] = mapped_column(BigInteger)
    #: The mobile, if it counts as one of the account's different ones.
    account_mobile: Mapped[int | None] = mapped_column(BigInteger)
    ip: Mapped[int | None] = mapped_column(BigInteger)
    network: Mapped[int | None] = mapped_column(BigInteger)
    wide: Mapped[int | None] = mapped_column(BigInteger)
    #: The key of the cooldown that it starts.
    cooldown: Mapped[int | None] = mapped_column(BigInteger)
    #: None for a second copy, and after a refund.
    challenge_id: Mapped[str | None] = mapped_column(ascii_text(32))


class UsageGuess(Base):
    """One wrong guess, or one that a gateway is checking, and what it counts against."""

    __tablename__ = "smsverify_usage_guess"
    __table_args__ = (
        Index("ix_smsverify_usage_guess_subject", "subject", "at"),
        _partial_index("ix_smsverify_usage_guess_number", "number", "at"),
        _partial_index("ix_smsverify_usage_guess_ip", "ip", "at"),
        _partial_index("ix_smsverify_usage_guess_network", "network", "at"),
        Index("ix_smsverify_usage_guess_site_at", "site_at"),
    )

    id: Mapped[int] = mapped_column(SerialKey, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    #: Like `at`. A reset of the site's limit moves it into the past. The default is for rows that
    #: are older than the column.
    site_at: Mapped[int] = mapped_column(BigInteger, server_default="0")
    #: The account; without one the mobile, or the devices of the mobile's owner.
    subject: Mapped[int | None] = mapped_column(BigInteger)
    #: The mobile, if the guess is of an account that has not proved it.
    number: Mapped[int | None] = mapped_column(BigInteger)
    ip: Mapped[int | None] = mapped_column(BigInteger)
    network: Mapped[int | None] = mapped_column(BigInteger)


class UsageEvent(Base):
    """One unit of a limit in `limits.other_counts`, such as a notice or a foreign code."""

    __tablename__ = "smsverify_usage_event"
    __table_args__ = (
        Index("ix_smsverify_usage_event_subject", "subject", "at"),
        Index("ix_smsverify_usage_event_at", "at"),
    )

    id: Mapped[int] = mapped_column(SerialKey, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    subject: Mapped[int] = mapped_column(BigInteger)


class Streak(Base):
    """Wrong guesses in a row at a mobile without an account, or by an account that was erased.

    Those on the devices of the mobile's owner have a row of their own.
    """

    __tablename__ = "smsverify_streak"
    __table_args__ = (Index("ix_smsverify_streak_updated_at", "updated_at"),)

    subject: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    failures: Mapped[int]
    locked_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class Lock(Base):
    """A row that exists to be locked. `db.locks` says which ids there are."""

    __tablename__ = "smsverify_lock"
    __table_args__ = (Index("ix_smsverify_lock_claimed_at", "claimed_at"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    #: When the last claim of this mobile or user began; NULL in the rows that exist from the start.
    claimed_at: Mapped[datetime | None]


class App(Base):
    """The app that the tables belong to: one row."""

    __tablename__ = "smsverify_app"

    #: Always `ONLY`.
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    #: `SMSVERIFY_APP_ID` at the first use.
    app_id: Mapped[str] = mapped_column(exact_text(64))
    #: 128 random bits in hexadecimal. Tokens are bound to them. Not a secret.
    instance_id: Mapped[str] = mapped_column(ascii_text(32))
    created_at: Mapped[datetime]

    ONLY = 1


class UsedToken(Base):
    """A used proof token or native code, which must not be accepted again."""

    __tablename__ = "smsverify_used_token"
    __table_args__ = (Index("ix_smsverify_used_token_until", "until"),)

    digest: Mapped[str] = mapped_column(ascii_text(64), primary_key=True)
    until: Mapped[datetime]


class NativeHold(Base):
    """A mobile for which a native gateway may still accept codes of an erased challenge."""

    __tablename__ = "smsverify_native_hold"
    __table_args__ = (Index("ix_smsverify_native_hold_until", "until"),)

    #: A keyed digest of sender and mobile.
    digest: Mapped[str] = mapped_column(ascii_text(64), primary_key=True)
    until: Mapped[datetime]


class Alert(Base):
    """A signal, or a notice to the staff, that is not repeated before `until`."""

    __tablename__ = "smsverify_alert"
    __table_args__ = (Index("ix_smsverify_alert_until", "until"),)

    #: The names of signals and of notices about a limit begin with this and the limit's name.
    LIMIT, NOTICE = "limit ", "notice "

    name: Mapped[str] = mapped_column(ascii_text(64), primary_key=True)
    until: Mapped[datetime]


class Setting(Base):
    """A setting that staff have changed; it replaces the configuration's."""

    __tablename__ = "smsverify_setting"

    #: The key in lower case and without its prefix, such as `revalidation_days`.
    key: Mapped[str] = mapped_column(ascii_text(64), primary_key=True)
    #: JSON.
    value: Mapped[str] = mapped_column(long_text())
    updated_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Setting {self.key}>"


class Audit(Base):
    """Something that a member of the staff did on the staff pages."""

    __tablename__ = "smsverify_audit"
    __table_args__ = (
        Index("ix_smsverify_audit_at", "at", "id"),
        Index("ix_smsverify_audit_who", "who", "action", "at"),
        Index("ix_smsverify_audit_subject", "subject", "at"),
    )

    id: Mapped[str] = mapped_column(ascii_text(32), primary_key=True)
    #: Flask-Login's `get_id` of the staff member.
    who: Mapped[str] = mapped_column(UserId)
    #: The last part of the path, such as `revoke`.
    action: Mapped[str] = mapped_column(ascii_text(32))
    #: A user's id, a message's id, the key of a setting …
    subject: Mapped[str] = mapped_column(exact_text(191))
    #: What was changed, as a JSON object without codes and texts of codes.
    detail: Mapped[str] = mapped_column(long_text(), default="{}")
    at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Audit {self.action} by {self.who}>"


def install(metadata: MetaData, *, dialect: str) -> None:
    """Copy the tables into a host's metadata and schema. Tables that exist there are kept.

    The copies have SQLAlchemy's own column types, so that migrations do not import this package.
    MariaDB and MySQL need types of their own. For other databases these are left out, because a
    migration would show them at every column.

    :param dialect: the name of the host's dialect.
    """
    is_mysql = dialect in ("mysql", "mariadb")
    for table in Base.metadata.sorted_tables:
        name = f"{metadata.schema}.{table.name}" if metadata.schema else table.name
        copy = metadata.tables.get(name)
        is_new = copy is None
        if copy is None:
            copy = table.to_metadata(metadata, schema=metadata.schema or SchemaConst.RETAIN_SCHEMA)
        if is_new or is_mysql:  # another app may have installed them for another database
            for column in table.columns:
                copy.columns[column.name].type = plain_type(column.type, is_mysql=is_mysql)


#: Tables for statements that each message needs. Those on mapped classes take longer to execute.
MESSAGES = cast("Table", Message.__table__)
ATTEMPTS = cast("Table", Attempt.__table__)
