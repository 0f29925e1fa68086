"""Checks of options, each raising a `ConfigError` that names the parameter, the value and what is allowed."""

from __future__ import annotations

import math
from numbers import Real

from llm_guard.errors import ConfigError


def number(parameter: str, value: object, *, above: float | None = None, least: float | None = None,
           below: float | None = None, most: float | None = None, unit: str = "", endless: bool = False) -> float:
    """`value` as a float within the bounds: `above` and `below` are exclusive, `least` and `most` are inclusive. It is
    finite, or, with `endless`, infinity too."""
    bounds = [f"{word} {bound:g}" for word, bound in (("above", above), ("at least", least), ("below", below),
                                                      ("at most", most)) if bound is not None]
    kind = "a number, or infinity," if endless else "a finite number"
    allowed = " ".join(filter(None, [kind, f"of {unit}" if unit else "", " and ".join(bounds)])).rstrip(",")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(parameter, value, allowed)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if (math.isnan(found) or (math.isinf(found) and not endless)
            or (above is not None and found <= above) or (least is not None and found < least)
            or (below is not None and found >= below) or (most is not None and found > most)):
        raise ConfigError(parameter, value, allowed)
    return found


def optional_number(parameter: str, value: object, *, above: float | None = None, least: float | None = None,
                    most: float | None = None, unit: str = "") -> float | None:
    """As `number`, where None means "not set"."""
    return None if value is None else number(parameter, value, above=above, least=least, most=most, unit=unit)


def whole(parameter: str, value: object, *, least: int, most: int | None = None) -> int:
    """`value` as an int from `least` to `most`."""
    if (isinstance(value, bool) or not isinstance(value, int) or value < least
            or (most is not None and value > most)):
        raise ConfigError(parameter, value,
                          f"a whole number of at least {least}" + (f" and at most {most}" if most is not None else ""))
    return value


def one_of(parameter: str, value: object, allowed: tuple[str, ...]) -> str:
    """`value`, where it is one of the words allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ConfigError(parameter, value, "one of " + ", ".join(map(repr, allowed)))
    return value


def function(parameter: str, value: object, what: str = "a function") -> None:
    """Refuses what cannot be called, and coroutine functions, whose answer would be a coroutine."""
    if not callable(value):
        raise ConfigError(parameter, value, what)
    import inspect  # with the first function that is looked at

    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004
        raise ConfigError(parameter, value, f"{what} that blocks: coroutine functions are not called here")
