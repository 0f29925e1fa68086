"""`@ramp_up`: the pace. Raises the use of the server step by step, and holds back what it cannot take."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from llm_guard import checks, clock, events
from llm_guard.errors import ConfigError
from llm_guard.runtime.door import door
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.keys import Key, check_key, costs_of
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy, check_bare, check_classify
from llm_guard.runtime.reading import Classify
from llm_guard.state.costs import CostOptions, Costs
from llm_guard.state.gate import Gate
from llm_guard.state.keyed import MOST, Keyed, gates_of
from llm_guard.state.pace import Pace
from llm_guard.state.pace_door import PaceGate
from llm_guard.state.pace_snapshot import PaceSnapshot, together
from llm_guard.state.pace_words import RESUMED, paused_for
from llm_guard.state.paces import Paces

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds without a call after which a server is taken to be cold again, where nobody says otherwise.
IDLE = 60.0


class RampUpStatistics(NamedTuple):
    """The pace at this instant, and how many wait at the door for it, perhaps among other things.

    With a key, of all `keys` that are kept, taken together: windows, rates, limits, capacities, calls in flight and who
    waits are added up (a None among rates, limits or capacities: None); `gate_in`, `next_probe_in` and `since` are the
    shortest, `latency` is the mean; `growth_limited` says that one is; `state` and `why` are those that all share, else
    "mixed" and "several reasons".

    `spent` is what the calls of the last `cost_per` seconds cost, as far as is known, the others by their estimates
    (None: no `cost` was given; with a key, of all).
    """

    pace: PaceSnapshot
    waiting: int
    keys: int = 1
    spent: float | None = None


class _EveryKey:
    """Stands for all keys, those to come too."""

    def __repr__(self) -> str:
        return "EVERY_KEY"


EVERY_KEY = _EveryKey()


class RampUp(Policy):
    """See `ramp_up`."""

    name = "ramp_up"
    changes = True
    live = ("ceiling", "cost_ceiling")

    def __init__(self, pace: Callable[..., Pace], start: float | None, ceiling: float | None, key: Key | None,
                 max_keys: int, max_wait: float | None, classify: Classify | None,
                 costs: CostOptions | None = None) -> None:
        checks.whole("max_keys", max_keys, least=1)
        if key is not None:
            check_key("key", key)
        self._paces = Paces(pace, ceiling, self.name, key, max_keys)
        if start is not None and ceiling is not None and start > ceiling:
            raise ConfigError("start", start, f"at most the ceiling, {ceiling!r}")
        self._gate = self._paces.gate
        self._costs = None if costs is None else Costs(costs, self.name, key, max_keys)
        self._max_wait = checks.optional_number("max_wait", max_wait, least=0, unit="seconds")
        self._classify = check_classify(classify)
        self._decorates: str | None = None  # the name of the function, where there is exactly one

    def __call__(self, function: Callable[P, R]) -> Guarded[P, R]:
        guarded = super().__call__(function)
        self._decorates = getattr(guarded, "__qualname__", self.name) if self._decorates is None else self.name
        return guarded

    def join(self, plan: Plan, *, by_call: bool) -> None:
        plan.paces += (self._gate,)
        if self._costs is not None:
            plan.estimates += (self._costs.estimate,)
            plan.attempt_gates += (self._costs.gate,)
        plan.tellers += (self,)
        plan.wait_at_most(self._max_wait)
        plan.read_with(self._classify)

    @property
    def decorates(self) -> str:
        """The name of the one function that it decorates, or else its own."""
        return self._decorates or self.name

    @property
    def keyed(self) -> bool:
        """It has a state for each key."""
        return isinstance(self._gate, Keyed)

    @property
    def ceiling(self) -> float | None:
        """The most calls a second that it lets start, with a key: for each, or None. May be set at any time."""
        return self._paces.ceiling

    @ceiling.setter
    def ceiling(self, ceiling: float | None) -> None:
        with door.locked():
            self._paces.ceiling = ceiling
            gates = gates_of(self._gate)
        _ask_again(gates)

    @property
    def cost_ceiling(self) -> float | None:
        """What calls may cost within `cost_per` seconds, with a key: those of each, or None. May be set at any time."""
        return None if self._costs is None else self._costs.ceiling

    @cost_ceiling.setter
    def cost_ceiling(self, ceiling: float | None) -> None:
        if self._costs is None:
            if ceiling is None:
                return
            raise ConfigError("cost_ceiling", ceiling, "None, where ramp_up was not told what a call costs")
        with door.locked():
            self._costs.set_ceiling(ceiling)
            gates = gates_of(self._costs.gate)
        _ask_again(gates)

    def pause(self, seconds: float, *, key: Hashable = EVERY_KEY) -> None:
        """Lets nobody start for so many seconds; `key`: nobody with that key. Takes the place of an earlier pause."""
        checks.number("seconds", seconds, least=0, unit="seconds")
        news = self._by_hand(key, lambda paces, now: paces.pause(now, seconds))
        self._say(key, news, paused_for(seconds) if seconds > 0 else None)

    def resume(self, *, key: Hashable = EVERY_KEY) -> None:
        """Ends a pause, and opens a gate that the server's refusals have shut; `key`: for that key only."""
        news = self._by_hand(key, lambda paces, now: paces.resume(now))
        self._say(key, news, RESUMED if len(news) > 1 else None)

    def _by_hand(self, key: Hashable, act: Callable[[Paces | Pace, float], None]) -> list[tuple[int, str] | None]:
        """Does it to the paces of all keys or to that of one; the news of each."""
        with door.locked():
            now = clock.current().now()
            if key is EVERY_KEY:
                gates = gates_of(self._gate)
                act(self._paces, now)
            else:
                gates = [door.gate_of(self._keyed(), key)]
                act(gates[0].pace, now)
            news = [gate.pace.story.news(now) for gate in gates]
        _ask_again(gates)
        return news

    def change(self, now: float, keys: Mapping[Any, Hashable]) -> tuple[str, str, str] | None:
        gate = self._gate.known(keys[self._gate]) if isinstance(self._gate, Keyed) else self._gate
        if gate is None or gate.pace.story.state == gate.told:  # the end of the attempt has brought it up to date
            return None
        with door.locked():
            state, why = gate.pace.story.state, gate.pace.story.why
            told, gate.told = gate.told, state
        return None if told == state else (told, state, why)

    def news(self, now: float, keys: Mapping[Any, Hashable]) -> tuple[int, str] | None:
        gate = self._gate.known(keys[self._gate]) if isinstance(self._gate, Keyed) else self._gate
        if gate is None or now < gate.pace.story.tell_at:
            return None
        with door.locked():
            news = gate.pace.story.news(now)
        return (news[0], _of_keys(news[1], every=False)) if news is not None and self.keyed else news

    def _say(self, key: Hashable, all_news: list[tuple[int, str] | None], words: str | None) -> None:
        """What was done by hand: one line, however many keys there are; `words`, or else the news."""
        lines = [news[1] for news in all_news if news is not None]
        if words is None and not lines:
            return
        said = words or lines[0]
        if self.keyed:
            said = _of_keys(said, every=key is EVERY_KEY)
        events.log(logging.INFO, self.decorates, said)

    def statistics(self) -> RampUpStatistics:
        with door.locked():
            now = clock.current().now()
            gates = gates_of(self._gate)
            return RampUpStatistics(together([gate.pace.snapshot(now) for gate in gates]),
                                    sum(map(door.waiting, gates)), len(gates),
                                    None if self._costs is None else self._costs.spent(now))

    def statistics_of(self, key: Hashable) -> RampUpStatistics:
        """Of one key: its pace, and how many wait for it. A key that is not kept is as it will be when it comes."""
        with door.locked():
            now = clock.current().now()
            gate = self._keyed().known(key) or self._paces.new_gate()
            return RampUpStatistics(gate.pace.snapshot(now), door.waiting(gate),
                                    spent=None if self._costs is None else self._costs.spent_of(key, now))

    def _keyed(self) -> Keyed[PaceGate]:
        if isinstance(self._gate, Keyed):
            return self._gate
        raise ConfigError("key", None, "given to ramp_up, where one key is asked for")

    def __repr__(self) -> str:
        return "ramp_up()" if self.ceiling is None else f"ramp_up(ceiling={self.ceiling:g})"


def _ask_again(gates: Iterable[Gate]) -> None:
    for gate in gates:
        door.changed(gate)


def _of_keys(line: str, *, every: bool) -> str:
    return f"{'every' if every else 'one'} key: {line}"


@overload
def ramp_up(function: Callable[P, R], /) -> Guarded[P, R]: ...


@overload
def ramp_up(*, start: float | None = ..., ceiling: float | None = ..., ramp_time: float | None = ...,
            max_growth: tuple[float, float] | None = ..., key: Key | None = ..., max_keys: int = ...,
            idle: float | None = ..., cost: float | Key | None = ..., cost_ceiling: float | None = ...,
            cost_per: float = ..., max_wait: float | None = ..., classify: Classify | None = ...) -> RampUp: ...


def ramp_up(function: Any = None, /, *, start: float | None = None, ceiling: float | None = None,
            ramp_time: float | None = None, max_growth: tuple[float, float] | None = None, key: Key | None = None,
            max_keys: int = MOST, idle: float | None = IDLE, cost: float | Key | None = None,
            cost_ceiling: float | None = None, cost_per: float = 60.0, max_wait: float | None = None,
            classify: Classify | None = None) -> Any:
    """Finds out how much the server takes, from how the calls end, and never asks for much more.

    Begins with a few calls in flight, grows while they succeed, steps back when answers slow down or are refused, and
    waits, with one probe at a time, while the server loads or is gone. `start` and `ceiling` are rates in calls a
    second: the first, and the most there may be (None: the server's word alone). In any window of w seconds at most
    rate * (w + 0.010) + 1 attempts start. `max_wait`: seconds that a call waits before it is `Saturated`. `classify`
    replaces the reading of errors and returned values.

    A schedule of your own holds whatever the server would bear. `ramp_time=60`: the rate rises evenly from `start` to
    `ceiling` within 60 s of the first call, and again when the server was cold. `max_growth=(1.5, 900)`: the rate is at
    most 1.5 times the mean rate of starts in the last 900 s, and in the 900 s before those, whichever is less; `start`
    (else 1) calls a second may always start. `idle`: after so many seconds without a call the server is taken to be
    cold again (None: never).

    Tokens, beside calls: `cost_ceiling=90_000` lets calls cost so much within any `cost_per` seconds, and spends it
    evenly. `cost` is what a call will cost: a number, the name of a parameter, or a function that is called with the
    arguments of each call. That is reserved when an attempt starts, so that concurrent calls cannot overshoot, and is
    settled when it ends, by the tokens that its answer tells (`llm_guard.llm.usage_of`), where it does. A call larger
    than the ceiling goes alone. What the server tells of its remaining tokens is kept to.

    `key` gives each model, say, a pace of its own: it is a function that is called with the arguments of each call, or
    the name of a parameter, and gives what can be hashed. Of at most `max_keys` keys it is kept what was learned: only
    those without a call give way, the longest unused first. The options are those of each key. No key is ever shown in
    errors, events or logs.
    """
    check_bare(function, "start", "ramp_up(start=1)")
    pace = partial(Pace, clock.chance, start=start, idle=idle, ramp_time=ramp_time, max_growth=max_growth)
    policy = RampUp(pace, start, ceiling, key, max_keys, max_wait, classify, costs_of(cost, cost_ceiling, cost_per))
    return policy if function is None else policy.bare(function)
