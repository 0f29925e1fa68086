"""llm_guard: decorators that carry blocking calls to LLM APIs through cold starts, rate limits and overload.

    @ramp_up
    @bounded(32)
    @retry
    @timeout(20)
    @breaker
    def ask(prompt: str) -> str: ...

    for answer in map_with_backpressure(ask, prompts): ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_guard.errors import (
    CallTimeout,
    Cancelled,
    ConfigError,
    GuardError,
    JournalBusy,
    JournalError,
    QuotaExhausted,
    Rejected,
    Saturated,
    Stopped,
)
from llm_guard.mapping.journal.forms import Form, know_form
from llm_guard.outcome import Kind, Outcome
from llm_guard.runtime import reading

if TYPE_CHECKING:
    from llm_guard.llm import outcome_of, usage_of
    from llm_guard.mapping.executor import BlockingExecutor
    from llm_guard.mapping.journal.journal import Journal
    from llm_guard.mapping.mapping import map_with_backpressure
    from llm_guard.mapping.progress import Progress
    from llm_guard.mapping.result import Result
    from llm_guard.mapping.stopping import StopAfter, stop_after
    from llm_guard.policies.bounded import bounded
    from llm_guard.policies.breaker import breaker
    from llm_guard.policies.deadline import deadline
    from llm_guard.policies.fallback import fallback
    from llm_guard.policies.ramp_up import ramp_up
    from llm_guard.policies.retry import retry
    from llm_guard.policies.timeout import timeout
    from llm_guard.runtime.marking import stream
    from llm_guard.runtime.stack import Stack, stack
    from llm_guard.runtime.streams import Stream
    from llm_guard.runtime.switch import disable, disabled, enable
    from llm_guard.state.bucket import LeakyBucket
    from llm_guard.state.circuit import CircuitOpen
    from llm_guard.state.limiter import Limiter

__version__ = "0.1.0"

__all__ = [
    "BlockingExecutor",
    "CallTimeout",
    "Cancelled",
    "CircuitOpen",
    "ConfigError",
    "GuardError",
    "Journal",
    "JournalBusy",
    "JournalError",
    "Kind",
    "LeakyBucket",
    "Limiter",
    "Outcome",
    "Progress",
    "QuotaExhausted",
    "Rejected",
    "Result",
    "Saturated",
    "Stack",
    "StopAfter",
    "Stopped",
    "Stream",
    "bounded",
    "breaker",
    "deadline",
    "disable",
    "disabled",
    "enable",
    "fallback",
    "map_with_backpressure",
    "outcome_of",
    "ramp_up",
    "retry",
    "stack",
    "stop_after",
    "stream",
    "timeout",
    "usage_of",
]

#: What is imported when it is first asked for, and where it is: nobody needs it all.
_LATE = {
    "BlockingExecutor": "mapping.executor", "CircuitOpen": "state.circuit", "Journal": "mapping.journal.journal",
    "LeakyBucket": "state.bucket", "Limiter": "state.limiter", "Progress": "mapping.progress",
    "Result": "mapping.result", "Stack": "runtime.stack", "StopAfter": "mapping.stopping", "Stream": "runtime.streams",
    "bounded": "policies.bounded", "breaker": "policies.breaker", "deadline": "policies.deadline",
    "disable": "runtime.switch", "disabled": "runtime.switch", "enable": "runtime.switch",
    "fallback": "policies.fallback", "map_with_backpressure": "mapping.mapping", "outcome_of": "llm",
    "ramp_up": "policies.ramp_up", "retry": "policies.retry", "stack": "runtime.stack",
    "stop_after": "mapping.stopping", "stream": "runtime.marking", "timeout": "policies.timeout",
    "usage_of": "llm",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"llm_guard.{_LATE[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})


def _readers() -> reading.Readers:
    from llm_guard import llm  # never a part of it first: two threads might then wait for each other's imports

    return llm.outcome_of, llm.usage_of


def _text() -> tuple[str, Form]:
    from llm_guard import llm
    from llm_guard.llm.text import text_as_json, text_from_json

    return "text", Form(llm.Text, text_as_json, text_from_json)


reading.know_shapes(_readers)
know_form(_text)
