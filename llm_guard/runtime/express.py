"""The short way of most calls: all gates are open, and the first attempt succeeds.

Such a call needs no more than its permits, its place as the call in progress, and a look at what came back. Whatever is
out of the ordinary, before the attempt or after it, is the runner's, which takes the call over as it stands. What may
go this way is known beforehand (`Plan.is_simple`): nothing that is held for the whole call, no keys, no deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llm_guard import call, clock, events
from llm_guard.call import FOREVER, Call
from llm_guard.outcome import SUCCESS
from llm_guard.runtime import options, reading
from llm_guard.runtime.attempt import Permits, run_in_time
from llm_guard.runtime.door import door
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.runner import NO_VERDICT, Run
from llm_guard.runtime.telling import Telling, tell_news
from llm_guard.state.gate import Ending, Request


def carry(plan: Plan, above: Call | None, function: Callable[..., Any], label: str, args: tuple[Any, ...],
          kwargs: dict[str, Any], listeners: events.Listeners) -> Any:
    """One call of `function`, for which `may` said yes: returns what it returns, or raises what ended it."""
    gates = plan.simple_gates
    request = Request(gates, plan.patience)
    now = clock.current().now
    if gates and not door.try_enter(request, now):
        del request  # the runner makes one of its own
        return Run(plan, function, args, kwargs, label, options.NONE, listeners).go()
    mine = Call(FOREVER, None, plan.policies, request)
    mine.active = False  # until it is sure to end: it could stay the one in progress after an interrupt
    value: Any = None
    error: BaseException | None = None
    heard: object = None
    telling: Telling | None = None
    permits: Permits | None = None
    limit: float | None = None
    started = now()
    try:
        if above is not None:
            mine.cut_off = above.cut_off
            above.attempts += 1
            above.guards = plan.policies
        if (audience := events.audience_of(listeners)) is not None:
            telling = Telling(audience, label, started)
            telling.attempt_started(started, 1, 0.0)
        token = call.begin(mine)
        try:
            mine.active = True
            if plan.timeouts:
                limit = min([timed.bounds.total for timed in plan.timeouts])
                permits = Permits(request, list(zip(gates, request.permits, strict=True)))
                until = mine.deadline = started + limit
                value = run_in_time(partial(function, *args, **kwargs), mine, limit, until, (permits,), plan.timeouts)
            else:
                try:
                    value = function(*args, **kwargs)
                finally:
                    mine.active = False  # its context may outlive it
        finally:
            call.end(token)
            heard, mine.heard = mine.heard, None  # which a connection that it refers to may refer to
        if plan.classify is None and heard is None and type(value) in (
                plan.plain if telling is None else reading.COUNTED_PLAIN):
            if gates or telling is not None:
                ended = now()
                ending = Ending(SUCCESS, ended - started, limit, None, plan.is_paced)
                if gates:
                    door.leave_whole(request, ending, now)
                if telling is not None:
                    telling.attempt_ended(ended, 1, ending, plan, _NO_KEYS)
                    telling.call_ended(ended, 1, ending)
                if plan.tellers:
                    tell_news(plan, label, ended, _NO_KEYS)
            return value
    except BaseException as raised:
        error = raised
    try:
        if permits is None:
            permits = Permits(request, list(zip(gates, request.permits, strict=True)))
        run = Run(plan, function, args, kwargs, label, options.NONE, listeners, telling=telling, came=started)
        return run.go_on(permits, started, value, error, heard)
    except BaseException:  # the call's own error, an interrupt before it had ended, or no room on the stack to end it
        if permits is None:
            door.leave(request, list(zip(gates, request.permits, strict=True)), NO_VERDICT)
        else:
            permits.end(NO_VERDICT)  # no effect where it had
        raise
    finally:
        error = heard = None  # the error's traceback holds this frame


def may(plan: Plan, above: Call | None) -> bool:
    """Whether a call under `above` may go this way: not where that has a deadline, or holds a policy, and not while
    functions that ran out of time still run."""
    if not plan.is_simple or (plan.timeouts and any(timed.still_running for timed in plan.timeouts)):
        return False
    return above is None or (above.deadline == FOREVER and above.owner is None and not above.held
                             and not (above.cut_off is not None and above.cut_off.waits.is_cut))


_NO_KEYS: dict[Any, Any] = {}
