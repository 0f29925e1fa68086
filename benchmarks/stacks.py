"""Variants of this project's own stack, to see which one to recommend: the pace alone, with a breaker beside its gate,
a breaker in place of the pace, with bounds in flight."""

from __future__ import annotations

from llm_guard import bounded, breaker, ramp_up, retry, stack, timeout
from llm_guard.testing.simulation import Strategy

STACKS: dict[str, Strategy] = {
    "@ramp_up @retry @timeout": Strategy(lambda setting: stack(ramp_up(), retry(), timeout(setting.timeout))),
    "@ramp_up @bounded(32) @retry @timeout": Strategy(lambda setting: stack(
        ramp_up(), bounded(32), retry(), timeout(setting.timeout))),
    "@ramp_up @retry @timeout @breaker": Strategy(lambda setting: stack(
        ramp_up(), retry(), timeout(setting.timeout), breaker())),
    "@ramp_up @retry @timeout @breaker(window=20, min_calls=10)": Strategy(lambda setting: stack(
        ramp_up(), retry(), timeout(setting.timeout), breaker(window=20, min_calls=10))),
    "@ramp_up @retry @timeout @breaker(window_seconds=10)": Strategy(lambda setting: stack(
        ramp_up(), retry(), timeout(setting.timeout), breaker(window_seconds=10))),
    "@ramp_up @bounded(32) @retry @timeout @breaker": Strategy(lambda setting: stack(
        ramp_up(), bounded(32), retry(), timeout(setting.timeout), breaker())),
    "@retry @timeout @breaker": Strategy(lambda setting: stack(retry(), timeout(setting.timeout), breaker())),
    "@bounded(8) @retry @timeout @breaker": Strategy(lambda setting: stack(
        bounded(8), retry(), timeout(setting.timeout), breaker())),
    "@retry @timeout": Strategy(lambda setting: stack(retry(), timeout(setting.timeout))),
}
