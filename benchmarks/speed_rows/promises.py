"""What each promise of the runner costs: calls with and without it, in turns.

Most are stacks that have one thing more. Two are taken out of the runner: there a double stands in for the function
that keeps the promise, and where no call comes by that function, the row is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from overhead import bare, calls_in, never_waits, timed

from llm_guard import bounded, breaker, call, deadline, disabled, events, retry, stack, timeout
from llm_guard.outcome import Outcome
from speed_rows.row import Effort, Row
from speed_rows.success_path import ROUNDS
from speed_rows.turns import in_turns

Call = Callable[[str], str]


class Answer(str):
    """What has to be looked at: it might be a response."""

    __slots__ = ()


def look_at(value: object) -> Outcome | None:
    return None


def rows(effort: Effort) -> list[Row]:
    if effort.few:
        return []
    seconds, rounds = 0.01 * effort.scale, max(effort.rounds, ROUNDS)
    with_keys = bounded(8, per_key="prompt")(bare)
    heard = retry(bare)
    heard.on_event(lambda event: None)
    inner = retry(bare)
    answered = Answer("hello")
    by_retry = retry(bare)
    #: What is called with it, and without it.
    pairs: dict[str, tuple[Call, Call]] = {
        "a guard, its runner and @retry's place in it": (by_retry, bare),
        "the door, with one limit (@bounded)": (stack(retry(), bounded(8))(bare), by_retry),
        "a circuit at the same door": (stack(retry(), bounded(8), breaker())(bare), stack(retry(), bounded(8))(bare)),
        "a pace at the same door": (stack(retry(), bounded(8), never_waits())(bare), stack(retry(), bounded(8))(bare)),
        "a limit for each key": (with_keys, bounded(8)(bare)),
        "a deadline that is handed down (@deadline)": (deadline(5)(bare), by_retry),
        "control that returns in time (@timeout)": (timeout(5)(bare), by_retry),
        "a guarded call in a guarded call": (retry(lambda prompt: inner(prompt)), inner),
        "an answer that has to be looked at": (retry(lambda prompt: answered), retry(lambda prompt: prompt)),
        "a reading of one's own (classify=)": (stack(retry(), classify=look_at)(bare), by_retry),
        "somebody listens": (heard, by_retry),
    }
    found = []
    for name, (having, lacking) in pairs.items():
        found.append(_row(name, _turn(having, seconds), _turn(lacking, seconds), rounds))
    with disabled():
        found.append(_row("a guard that is switched off", _turn(by_retry, seconds), _turn(bare, seconds), rounds))
    for name, owner, doubles in (
            ("the call in progress, handed down", call, {"begin": lambda mine: None, "end": lambda token: None}),
            ("nobody listens, but it is asked", events, {"audience_of": lambda listeners: None})):
        if _comes_by(owner, doubles, by_retry):
            found.append(_row(name, _turn(by_retry, seconds), _without(owner, doubles, by_retry, seconds), rounds))
    return found


def _row(name: str, having: Callable[[], float], lacking: Callable[[], float], rounds: int) -> Row:
    took = in_turns({"having": having, "lacking": lacking}, rounds)
    more = median(one - other for one, other in zip(took["having"], took["lacking"], strict=True))
    return Row("promise", f"{name}, us", more,
               beside=f"{median(took['having']):.2f} with, {median(took['lacking']):.2f} without")


def _turn(function: Call, seconds: float) -> Callable[[], float]:
    calls = calls_in(seconds, function)
    return lambda: 1e6 * timed(function, calls).cpu / calls


def _without(owner: Any, doubles: dict[str, Any], function: Call, seconds: float) -> Callable[[], float]:
    with _put(owner, doubles):
        turn = _turn(function, seconds)

    def doubled() -> float:
        with _put(owner, doubles):
            return turn()

    return doubled


def _comes_by(owner: Any, doubles: dict[str, Any], function: Call) -> bool:
    came = []

    def noting(double: Any) -> Any:
        def noted(*args: Any) -> Any:
            came.append(double)
            return double(*args)

        return noted

    if not all(hasattr(owner, name) for name in doubles):
        return False
    with _put(owner, {name: noting(double) for name, double in doubles.items()}):
        function("hello")
    return len(came) >= len(doubles)


@contextmanager
def _put(owner: Any, doubles: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in doubles}
    try:
        for name, double in doubles.items():
            setattr(owner, name, double)
        yield
    finally:
        for name, original in before.items():
            setattr(owner, name, original)
