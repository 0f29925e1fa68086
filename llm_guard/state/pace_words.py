"""The words for what the pace does and why: a fixed vocabulary with numbers in it, made from no payload."""

from __future__ import annotations

from llm_guard.outcome import Kind
from llm_guard.state.pace_load import Load

NOT_YET = "no call has been answered yet"
LEFT_AGAIN = "the account has calls left again"
RESUMED, PAUSE_OVER = "resumed by hand", "the pause is over"
FORGOTTEN = "no refusal for long, trying more"
SLOWER, AT_CEILING = "answers became slower", "the rate has reached its ceiling"
ENOUGH, MORE = "no more calls came", "more calls came"

_SHUT = {"loading": "the model is loading", "rationed": "the account has no calls left for now",
         "exhausted": "the account's quota is exhausted"}
_REASONS = {Kind.LIMITED: "rate limit", Kind.OVERLOAD: "overload", Kind.GROWTH_LIMITED: "traffic grew too fast"}


def number(value: float) -> str:
    """Two digits at least: 0.47, 9.8, 38, 86400."""
    return f"{value:.2g}" if value < 9.95 else f"{value:.0f}"


def seconds(value: float) -> str:
    """To a tenth of a second, below ten seconds."""
    return f"{number(max(0.1, round(value, 1)) if value < 9.95 else value)} s"


def coming(wait: float) -> str:
    return "at once" if wait < 0.05 else f"in {seconds(wait)}"


def in_flight(calls: float) -> str:
    return f"{int(calls)} call{'' if int(calls) == 1 else 's'} in flight"


def paused_for(wait: float) -> str:
    return f"paused by hand for {seconds(wait)}"


def idle_for(wait: float) -> str:
    return f"no call for {seconds(wait)}"


def shut(state: str, kind: Kind | None) -> str:
    """Why nobody gets in; `kind`: how the call ended that shut the gate."""
    if state in _SHUT:
        return _SHUT[state]
    if kind in _REASONS:
        return f"the server refuses ({_REASONS[kind]})"
    return "calls time out one after another" if kind is Kind.TIMEOUT else "calls fail one after another"


def settled(kind: Kind | None, load: Load) -> str:
    """Why slow start is over, where it ended with a call that ended so."""
    if kind in _REASONS:
        if load.window.slots:
            return f"the server's slots were full with {in_flight(load.window.held)}"
        return f"the server refused a call ({_REASONS[kind]})"
    if load.rate.slow_start and load.rate.value >= load.rate.ceiling:
        return AT_CEILING
    return ENOUGH if load.ramping else SLOWER


def allowed(load: Load) -> str:
    """What the pace lets through at most."""
    if load.rate.dormant:
        return in_flight(load.window.size)
    return f"{number(load.rate.value)} calls a second"


def achieved(load: Load) -> str:
    """What came of it lately."""
    bound = f", at most {int(load.window.size)} in flight" if load.rate.dormant else ""
    return f"{number(load.rate.delivered or load.rate.value)} calls a second{bound}"
