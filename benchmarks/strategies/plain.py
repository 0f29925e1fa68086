"""A thread pool and tenacity, as most scripts have it: every thread calls at once and tries again.

tenacity's: see `tries`. There is nothing else to it.
"""

from __future__ import annotations

from llm_guard.testing.simulation import Call, Client, ServerCall, Setting, Strategy
from strategies.tries import Retry, client


def strategy(retry: Retry) -> Strategy:
    """The pool with that way to try again."""
    @Strategy
    def made(setting: Setting) -> Client:
        def attempt(call: ServerCall) -> Call:
            return lambda item: call(item, timeout=setting.timeout)

        return client(setting, attempt, retry)

    return made
