"""Callbacks that run when a session's outermost transaction has committed.

SQLAlchemy's own `after_commit` event also fires for savepoints, and a rollback of a savepoint does
not drop the callbacks that were registered inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

#: The key of `Session.info` that holds the registered callbacks.
_CALLBACKS = "smsverify_after_commit"


@dataclass(frozen=True, slots=True)
class _Registered:
    """A callback and the transactions it depends on: all savepoints that were open, and the root.

    :param transactions: innermost first.
    """

    callback: Callable[[], None]
    transactions: Sequence[SessionTransaction]


def after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Call back once when the session's outermost transaction commits; never after a rollback.

    A rollback of a savepoint drops the callbacks that were registered inside it. `Session.close`
    drops all.
    """
    if _CALLBACKS not in session.info:
        session.info[_CALLBACKS] = []
        event.listen(session, "after_commit", _run_callbacks)
        event.listen(session, "after_soft_rollback", _drop_rolled_back)
        event.listen(session, "after_transaction_end", _drop_all_at_end)
    transactions: list[SessionTransaction] = []
    transaction = session.get_nested_transaction() or session.get_transaction()
    while transaction is not None:
        transactions.append(transaction)
        transaction = transaction.parent
    session.info[_CALLBACKS].append(_Registered(callback, transactions))


def _run_callbacks(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released; the outermost transaction is still open
    registered, session.info[_CALLBACKS] = session.info[_CALLBACKS], []
    for item in registered:
        item.callback()


def _drop_rolled_back(session: Session, ended: SessionTransaction) -> None:
    """Drop the callbacks of a transaction or savepoint that was rolled back."""
    rolled_back = ended
    while rolled_back.parent is not None and not rolled_back.nested:
        rolled_back = rolled_back.parent  # a failed flush rolls back the transaction around it
    session.info[_CALLBACKS] = [
        item for item in session.info[_CALLBACKS] if rolled_back not in item.transactions
    ]


def _drop_all_at_end(session: Session, ended: SessionTransaction) -> None:
    """Drop everything when the root transaction ends. `Session.close` ends it without rollback."""
    if ended.parent is None:
        session.info[_CALLBACKS] = []
