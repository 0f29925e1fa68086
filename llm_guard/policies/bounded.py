"""`@bounded(n)`: at most n in flight; the others wait their turn."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, overload

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.runtime.door import door
from llm_guard.runtime.keys import Key, check_key
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy
from llm_guard.state.keyed import MOST, Keyed, gates_of
from llm_guard.state.limiter import LimitGate


class BoundedStatistics(NamedTuple):
    """How many are in flight, of at most `limit`; the most there were; how many wait for a place, perhaps among other
    things.

    With a limit for each key alone, of all `keys` that are kept: `in_flight` and `waiting` are sums, `limit` and `peak`
    those of one key (the highest peak there is). Where a limit on all holds too, `limit` and `peak` are that one's, and
    `per_key` is the limit of each key.
    """

    limit: int
    in_flight: int
    peak: int
    waiting: int
    keys: int = 1
    per_key: int | None = None


class Bounded(Policy):
    """See `bounded`. There is a gate for all, or a family with one for each key, or both."""

    name = "bounded"
    live: tuple[str, ...] = ("n",)

    def __init__(self, n: int, max_wait: float | None, holds: str, key: Key | None, per_key: Key | int | None,
                 max_keys: int) -> None:
        if callable(n):
            raise ConfigError("n", n, "a whole number of at least 1: write @bounded(8), with the limit")
        self._limit = checks.whole("n", n, least=1)  # of `_gate`, or of each in it
        checks.whole("max_keys", max_keys, least=1)
        self._total: LimitGate | None = None  # where `_gate` is a family that has a share each
        self._gate: LimitGate | Keyed[LimitGate]
        if key is not None:
            self._limit = _share(per_key, n)
            self._total = LimitGate(n, self.name)
            self._gate = Keyed(self._new_gate, check_key("key", key), option="key", most=max_keys)
            self.live = ("n", "per_key")
        elif isinstance(per_key, int):
            raise ConfigError("per_key", per_key, "the name of a parameter, or a function of the call's arguments; a "
                                                  "limit only where key= says whose calls they are")
        elif per_key is not None:
            self._gate = Keyed(self._new_gate, check_key("per_key", per_key), option="per_key", most=max_keys)
        else:
            self._gate = LimitGate(n, self.name)
        self._max_wait = checks.optional_number("max_wait", max_wait, least=0, unit="seconds")
        self._holds = checks.one_of("holds", holds, ("attempt", "call"))

    def join(self, plan: Plan, *, by_call: bool) -> None:
        # The key's own comes first: where neither has room, it is the one that a refusal tells of.
        gates = (self._gate,) if self._total is None else (self._gate, self._total)
        if self._holds == "call":
            plan.call_gates += gates
        else:
            plan.attempt_gates += gates
        plan.wait_at_most(self._max_wait)

    @property
    def n(self) -> int:
        """The limit, with `per_key` alone: of each. It may be set at any time; a lower one takes nothing from those
        in flight."""
        return self._limit if self._total is None else self._total.limit

    @n.setter
    def n(self, n: int) -> None:
        checks.whole("n", n, least=1)
        if self._total is None:
            self._set_each(n)
            return
        with door.locked():
            self._total.limit = n
        door.changed(self._total)

    @property
    def for_all(self) -> bool:
        """Whether `n` is a limit on all calls together; else it is one of each key alone."""
        return self._total is not None or not isinstance(self._gate, Keyed)

    @property
    def per_key(self) -> int | None:
        """The limit of each key beside that on all, where there is one; may be set at any time too."""
        return None if self._total is None else self._limit

    @per_key.setter
    def per_key(self, limit: int) -> None:
        if self._total is None:
            raise ConfigError("per_key", limit, "set only where bounded was given a key, and a limit for each")
        self._set_each(checks.whole("per_key", limit, least=1))

    def _set_each(self, limit: int) -> None:
        with door.locked():
            self._limit = limit
            gates = gates_of(self._gate)
            for gate in gates:
                gate.limit = limit
        for gate in gates:
            door.changed(gate)

    def statistics(self) -> BoundedStatistics:
        with door.locked():
            gates = gates_of(self._gate)
            if self._total is not None:
                return BoundedStatistics(self.n, self._total.in_flight, self._total.peak, door.waiting(self._total),
                                         len(gates), self._limit)
            return BoundedStatistics(self._limit, sum(gate.in_flight for gate in gates),
                                     max((gate.peak for gate in gates), default=0), sum(map(door.waiting, gates)),
                                     len(gates))

    def statistics_of(self, key: Hashable) -> BoundedStatistics:
        """Of one key. One that is not kept has none in flight."""
        if not isinstance(self._gate, Keyed):
            raise ConfigError("per_key", None, "given to bounded, where one key is asked for")
        with door.locked():
            gate = self._gate.known(key) or self._new_gate()
            return BoundedStatistics(self._limit, gate.in_flight, gate.peak, door.waiting(gate), per_key=self.per_key)

    def _new_gate(self) -> LimitGate:
        return LimitGate(self._limit, self.name, by_key=True)

    def __repr__(self) -> str:
        return f"bounded({self.n})" if self._total is None else f"bounded({self.n}, per_key={self._limit})"


def _share(per_key: object, n: int) -> int:
    if isinstance(per_key, bool) or not isinstance(per_key, int) or not 1 <= per_key <= n:
        raise ConfigError("per_key", per_key, f"a whole number from 1 to n, {n}, where key says whose calls they are")
    return per_key


@overload
def bounded(n: int, *, max_wait: float | None = ..., holds: str = ..., per_key: Key | None = ...,
            max_keys: int = ...) -> Bounded: ...


@overload
def bounded(n: int, *, key: Key, per_key: int, max_wait: float | None = ..., holds: str = ...,
            max_keys: int = ...) -> Bounded: ...


def bounded(n: int, *, max_wait: float | None = None, holds: str = "attempt", key: Key | None = None,
            per_key: Key | int | None = None, max_keys: int = MOST) -> Bounded:
    """At most `n` attempts in flight in this process, served first come, first served.

    `max_wait`: seconds that a call waits for a place before it is `Saturated` (None: as long as it takes). `holds`:
    "attempt" gives the place back between two attempts of one call; "call" keeps it from the first to the last, as a
    mutex does. An attempt that ran out of time keeps its place until its function has really ended.

    `key` with `per_key=2`: at most `n` in all, and of these at most 2 for each key, so that no user, say, takes all.
    Who waits for a place of its own key holds up no other key; among those who can go on, whoever came first is first.

    `per_key` alone: at most `n` for each key, and any number in all. There it is what `key` is elsewhere: a function
    that is called with the arguments of each call (with none, where it takes none: it may look at the request in
    progress), or the name of a parameter, and gives what can be hashed: a tenant, a model, or "self" for a limit of
    each instance's own.

    The limits of at most `max_keys` keys are kept; only those that nobody holds or waits for give way. No key is ever
    shown in errors, events or logs.
    """
    return Bounded(n, max_wait, holds, key, per_key, max_keys)
