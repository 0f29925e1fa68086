"""What a streaming function gives: opened, asked and closed in one thread, whichever that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

from llm_guard.outcome import Kind, Outcome
from llm_guard.runtime.attempt import close_quietly


class Refused(Exception):
    """The function did not raise, but returned what reads as a refusal or a failure: no stream begins."""

    def __init__(self, value: Any, outcome: Outcome) -> None:
        super().__init__(outcome.kind.value)
        self.value = value
        self.outcome = outcome


class Items:
    """The items of what `function()` returns: a generator, or an iterable, which is read by `read` first.

    An item that fails closes what it came from.
    """

    __slots__ = ("_function", "_iterator", "_read", "_source")

    def __init__(self, function: Callable[[], Any], read: Callable[[object], Outcome]) -> None:
        self._function: Callable[[], Any] | None = function
        self._read = read
        self._source: Any = None  # what the function returned
        self._iterator: Iterator[Any] | None = None

    def first(self) -> Any:
        """Calls the function, and gives the first item."""
        function, self._function = self._function, None  # it holds the arguments, which are needed no more
        assert function is not None
        try:
            source = function()
        except StopIteration as error:  # it would look like an end
            raise RuntimeError("a streaming function raised StopIteration") from error
        if not isinstance(source, GeneratorType):
            outcome = self._read(source)
            if outcome.kind is not Kind.SUCCESS:
                raise Refused(source, outcome)
            if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
                raise TypeError("a function that is marked with @stream must return an iterable, not "
                                + type(source).__name__)
        self._source = source
        self._iterator = iter(source)
        return self.next()

    def next(self) -> Any:
        """The next item."""
        return self._ask(next)

    def send(self, value: object) -> Any:
        """Sends `value` in, where it `takes_values`, and gives the next item."""
        return self._ask(lambda iterator: iterator.send(value))

    @property
    def are_over(self) -> bool:
        """Whether no more can come: it is at its end, failed, or is closed."""
        return self._function is None and self._iterator is None

    @property
    def takes_values(self) -> bool:
        """Whether values can be sent in, as to a generator."""
        return hasattr(self._iterator, "send")

    def throw(self, errors: list[BaseException]) -> Any:
        """Raises the error in `errors` where the generator stands, and gives the next item; what is no generator is
        closed instead, and the error raised. It is taken out, for frames that held it would hold themselves."""
        if hasattr(self._iterator, "throw"):
            return self._ask(lambda iterator: iterator.throw(errors.pop()))
        self.close()
        raise errors.pop()

    def close(self) -> None:
        """Ends it: a generator runs its clean-up, anything else that can be closed is closed."""
        for each in self._taken():
            close = getattr(each, "close", None)
            if callable(close):
                close()

    def release(self) -> None:
        """Lets go of it, as whoever drops an iterator does: Python ends a generator that nobody else holds."""
        self._taken()

    def _ask(self, how: Callable[[Any], Any]) -> Any:
        try:
            return how(self._iterator)
        except StopIteration:
            self.release()
            raise
        except BaseException:
            for each in self._taken():
                close_quietly(each)
            raise

    def _taken(self) -> tuple[Any, ...]:
        iterator, source, self._iterator, self._source = self._iterator, self._source, None, None
        return (iterator,) if source is iterator else (iterator, source)
