"""Which key a call has, for policies that keep a state for each, and what it will cost: a function of its arguments, or
one of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.state.cost_gate import Estimate
from llm_guard.state.costs import CostOptions, check_ceiling
from llm_guard.state.keyed import Keyed

if TYPE_CHECKING:
    from inspect import Signature

#: How a policy says which key a call has: `key(*args, **kwargs)`, `key()` where it takes nothing (it reads the key from
#: where the call is made: a request's user, say), or the name of a parameter of the guarded function.
Key = str | Callable[..., Hashable]
#: What wants to know something of a call's arguments: by its `key`, as the user named it in `option`.
Asks = Keyed[Any] | Estimate
#: For each of those, what reads it from the arguments of a call.
Readers = Mapping[Asks, Callable[..., Hashable]]

NO_READERS: Readers = {}

_COST = "what a call will cost: a number, the name of a parameter, or a function of the call's arguments"


def check_key(option: str, key: object) -> Key:
    """`key`, where it is a name or a function that can be called."""
    if isinstance(key, str):
        return key
    checks.function(option, key, "the name of a parameter, or a function of the call's arguments")
    return key  # type: ignore[return-value]  # just checked


def costs_of(cost: object, ceiling: object, per: object) -> CostOptions | None:
    """The options of a bound on costs; None where there is none."""
    if cost is None:
        if ceiling is not None:
            raise ConfigError("cost", cost, f"{_COST}, where cost_ceiling bounds it")
        checks.number("cost_per", per, above=0, unit="seconds")
        return None
    if isinstance(cost, Real) and not isinstance(cost, bool):
        fixed = checks.number("cost", cost, least=0)
        estimate = Estimate(lambda *args, **kwargs: fixed)
    else:
        if not isinstance(cost, str):
            checks.function("cost", cost, _COST)
        estimate = Estimate(cost)  # type: ignore[arg-type]  # just checked
    return CostOptions(estimate, check_ceiling(ceiling), checks.number("cost_per", per, above=0, unit="seconds"))


def readers_for(function: Callable[..., Any], asks: Sequence[Asks], known: Readers) -> Readers:
    """What reads the keys of calls of `function`; `known` are those of the guarded function that it was."""
    return {each: known.get(each) or _reader(function, each) for each in asks} if asks else NO_READERS


def bound(readers: Readers, instance: object) -> Readers:
    """The same for a method of `instance`, whose calls leave it out."""
    return {each: partial(read, instance) for each, read in readers.items()}


def keys_of(asks: Sequence[Asks], readers: Readers, args: tuple[Any, ...],
            kwargs: dict[str, Any]) -> dict[Asks, Hashable]:
    """The keys and costs of one call. What a function of the user's raises is raised, and so is what is wrong with a
    key or a cost."""
    keys = {each: readers[each](*args, **kwargs) for each in asks}
    hash(tuple(keys.values()))  # here, in the open, not under the line's lock
    for each, value in keys.items():
        if isinstance(each, Estimate):
            each.check(value)
    return keys


def _reader(function: Callable[..., Any], asks: Asks) -> Callable[..., Hashable]:
    if not isinstance(asks.key, str):
        return _without_arguments(asks.key) if _takes_nothing(asks.key) else asks.key
    import inspect  # with the first argument that is read

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ConfigError(asks.option, asks.key, "a function of the call's arguments, where the guarded function "
                                                     "does not tell its parameters") from None
    single = [name for name, parameter in signature.parameters.items()
              if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]
    if asks.key not in single:
        raise ConfigError(asks.option, asks.key, "the name of a parameter of the guarded function, which has "
                                                     + (", ".join(single) or "none"))
    return _argument(signature, asks.key)


def _takes_nothing(key: Callable[..., Hashable]) -> bool:
    import inspect

    try:
        return not inspect.signature(key).parameters
    except (TypeError, ValueError):  # it does not tell
        return False


def _without_arguments(key: Callable[[], Hashable]) -> Callable[..., Hashable]:
    return lambda *args, **kwargs: key()


def _argument(signature: Signature, name: str) -> Callable[..., Hashable]:
    """What finds the argument of that name as a call would: `Signature.bind` alone, but ten times as fast."""
    parameter = signature.parameters[name]
    positional = [each.name for each in signature.parameters.values()
                  if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    at = positional.index(name) if name in positional else None
    by_name = parameter.kind is not parameter.POSITIONAL_ONLY
    default, absent = parameter.default, parameter.empty

    def read(*args: Any, **kwargs: Any) -> Hashable:
        found: Hashable = absent
        if at is not None and at < len(args):
            found = args[at]
        elif by_name:
            found = kwargs.get(name, default)
        else:
            found = default
        if found is absent:
            signature.bind(*args, **kwargs)  # raises what is wrong with the call
        return found

    return read
