"""What all policies have in common: they decorate, they join a plan, they can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from llm_guard import checks
from llm_guard.errors import ConfigError

if TYPE_CHECKING:
    from llm_guard.runtime.guarded import Guarded
    from llm_guard.runtime.plan import Plan
    from llm_guard.runtime.reading import Classify

P = ParamSpec("P")
R = TypeVar("R")

#: Where Django's `method_decorator` tries decorators on a function of its own.
_DECORATES_EACH_CALL = "django.utils.decorators"


class Policy:
    """A policy of a stack. One object may decorate many functions: they share its state.

    `name` is what errors and events call it.
    """

    name = "policy"
    _made_with: tuple[Any, ...]
    _made_with_names: Mapping[str, Any] = MappingProxyType({})
    #: Whether it may stand in one stack more than once, in the shape of different objects.
    repeatable = True
    #: Whether it has states of which listeners are told.
    changes = False
    #: Its settings that may be set at any time, by name.
    live: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        made._made_with = args
        if kwargs:
            made._made_with_names = kwargs
        return made

    def anew(self) -> Self:
        """A policy with the same settings, as they are now, and a state of its own that knows nothing yet."""
        made = type(self)(*self._made_with, **self._made_with_names)
        for setting in self.live:
            setattr(made, setting, getattr(self, setting))
        return made

    def __call__(self, function: Callable[P, R]) -> Guarded[P, R]:
        """Puts this policy on top of `function`'s stack, or begins one."""
        from llm_guard.runtime.stack import put_on_top  # a stack is made of policies

        return put_on_top(self, function)

    def bare(self, function: Callable[P, R]) -> Guarded[P, R]:
        """What the bare form makes, `@policy` without parentheses."""
        if getattr(function, "__module__", None) == _DECORATES_EACH_CALL:
            raise ConfigError("function", function, "under method_decorator, which decorates anew for each call, "
                                                    f"only a policy that is made once: method_decorator({self.name}())")
        return self(function)

    def join(self, plan: Plan, *, by_call: bool) -> None:
        """Adds its part to `plan`. `by_call`: it stands above the retry, where one call is what it sees."""
        raise NotImplementedError

    def check(self, *, streams: bool) -> None:
        """Refuses a function that it cannot guard as it was set; `streams`: it is one that streams."""

    def change(self, now: float, keys: Mapping[Any, Hashable]) -> tuple[str, str, str] | None:
        """The state it was last told to be in, the one it is in now and why, where they differ; for a family that is
        among `keys`, the state of that key. Asked after each attempt of which somebody is told, where it `changes`; so
        it costs next to nothing where there is none."""
        return None

    def news(self, now: float, keys: Mapping[Any, Hashable]) -> tuple[int, str] | None:
        """The line for the log that is due, without the function's name, and its level. Asked after each attempt, where
        the plan's `tellers` has this policy; so it costs next to nothing where there is none."""
        return None

    def statistics(self) -> Any:
        """A frozen snapshot of its state."""
        raise NotImplementedError


def check_bare(function: object, option: str, example: str) -> None:
    """Refuses what stands in the place of the function of a bare `@policy`, and is none: most likely an option."""
    if function is not None and not callable(function) and not isinstance(function, classmethod):
        raise ConfigError(option, function, f"given by name: {example}")


def check_classify(classify: Classify | None) -> Classify | None:
    """`classify`, where it is a function, or None."""
    if classify is not None:
        checks.function("classify", classify)
    return classify
