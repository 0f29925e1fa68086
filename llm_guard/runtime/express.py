"""The short way of most calls: all gates are open, and the first attempt succeeds.

Such a call needs no more than its permits, its place as the call in progress, and a look at what came back. Whatever is
out of the ordinary, before the attempt or after it, is the runner's, which takes the call over as it stands. What may
go this way is known beforehand (`Plan.is_simple`): no bounds in time, nothing held for the whole call, no keys.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llm_guard import call, clock, events
from llm_guard.call import FOREVER, Call
from llm_guard.outcome import SUCCESS
from llm_guard.runtime import options
from llm_guard.runtime.door import door
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.runner import Run, tell_news
from llm_guard.state.gate import Ending, Request


def carry(plan: Plan, function: Callable[..., Any], label: str, args: tuple[Any, ...], kwargs: dict[str, Any],
          listeners: events.Listeners) -> Any:
    """One call of `function` that is not part of another: returns what it returns, or raises what ended it."""
    gates = plan.simple_gates
    request = Request(gates, plan.patience)
    mine = Call(FOREVER, None, plan.policies, request)
    now = clock.current().now
    value: Any = None
    error: BaseException | None = None
    if gates and not door.try_enter(request, now):
        return Run(plan, partial(function, *args, **kwargs), label, options.NONE, listeners).go()
    try:
        started = now()
        token = call.begin(mine)
        try:
            value = function(*args, **kwargs)
        finally:
            mine.active = False  # its context may outlive it
            call.end(token)
        if plan.classify is None and mine.heard is None and type(value) in plan.plain:
            if gates:
                ended = now()
                door.leave_whole(request, Ending(SUCCESS, ended - started, None, None, plan.is_paced), now)
                if plan.tellers:
                    tell_news(plan, label, ended, {})
            return value
    except BaseException as raised:
        error = raised
    run = Run(plan, partial(function, *args, **kwargs), label, options.NONE, listeners)
    try:
        return run.go_on(request, started, value, error, mine.heard)
    finally:
        error = None  # its traceback holds this frame
