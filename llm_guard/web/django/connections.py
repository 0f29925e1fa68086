"""Database connections of the threads on which `@timeout` and mappings run functions.

Django keeps connections by thread. What a worker has opened is closed when its job is over, for nobody else would; and
a job whose caller is in the midst of a transaction may not open one, for its queries would not be part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import local
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from llm_guard.errors import GuardError


class _Thread(local):
    """Of a worker, the databases with which its caller is in a transaction."""

    in_transaction: frozenset[str] = frozenset()


_thread = _Thread()


def of_a_worker() -> AbstractContextManager[object]:
    """Called by who hands a job to a worker; the worker runs the job within what it gives."""
    here = frozenset(each.alias for each in connections.all(initialized_only=True) if each.in_atomic_block)
    return _on_worker(here | _thread.in_transaction)


@contextmanager
def _on_worker(in_transaction: frozenset[str]) -> Iterator[None]:
    _thread.in_transaction = in_transaction
    try:
        yield
    finally:
        _thread.in_transaction = frozenset()
        for each in connections.all(initialized_only=True):
            with suppress(Exception):  # what the job has returned is not lost for that
                each.close()
            del connections[each.alias]


class OutsideOfTransaction(GuardError, TransactionManagementError):
    """A function under `@timeout` asked a database with which its caller is in a transaction."""


def refuse_outside_of_a_transaction(connection: BaseDatabaseWrapper, **more: Any) -> None:
    """Called when a thread has opened a connection."""
    if connection.alias in _thread.in_transaction:
        connection.close()
        raise OutsideOfTransaction(
            "a function under @timeout, or mapped, runs on another thread with a database connection of its own, and "
            "its queries would be no part of the transaction that its caller is in (atomic(), ATOMIC_REQUESTS, a "
            "TestCase). Use @deadline, which needs no thread, or put @timeout on a function that does without the "
            "database")
