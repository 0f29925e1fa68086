"""What `steer` may be told, checked: which pace it steers, and where to."""

from __future__ import annotations

from typing import Any

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.policies.ramp_up import RampUp
from llm_guard.runtime.guarded import Guarded
from llm_guard.telemetry.steering import Aim

#: Seconds that the measure is taken to average over, where nobody says.
WINDOW = 60.0


def first(*values: Any) -> Any:
    """The first that is given."""
    return next((value for value in values if value is not None), None)


def pace_of(given: object) -> RampUp:
    """The ramp, or the one of a guarded function; ConfigError where there is none that one measure can steer."""
    allowed = "a ramp_up(...), or a function that exactly one guards"
    if isinstance(given, Guarded):
        paces = [policy for policy in given.guards if isinstance(policy, RampUp)]
        given = paces[0] if len(paces) == 1 else given
    if not isinstance(given, RampUp):
        raise ConfigError("pace", given, allowed)
    if given.keyed:
        raise ConfigError("pace", given, f"{allowed}, without key=: one measure tells nothing of each key")
    return given


def aim_of(target: float, tolerance: float, window: float | None, step: object, least: float | None,
           most: float | None) -> Aim:
    """What the controller is given; ConfigError for what cannot work."""
    aim = Aim(checks.number("target", target, above=0),
              checks.number("tolerance", tolerance, least=0, below=1),
              checks.number("window", first(window, WINDOW), above=0, unit="seconds"),
              *_steps(step), checks.optional_number("least", least, above=0, unit="calls a second"),
              checks.optional_number("most", most, above=0, unit="calls a second"))
    if aim.least is not None and aim.most is not None and aim.least > aim.most:
        raise ConfigError("least", least, f"at most what the ceiling may be, {aim.most:g}")
    return aim


def _steps(step: object) -> tuple[float, float]:
    if not (isinstance(step, tuple) and len(step) == 2):
        raise ConfigError("step", step, "a pair: the most that the ceiling is multiplied by on the way down, and up")
    return (checks.number("step", step[0], above=0, below=1), checks.number("step", step[1], above=1))
