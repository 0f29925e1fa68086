"""What goes wrong, as one tree.

`GuardError` is the root. `ConfigError` comes at decoration. `Rejected` says that a call never started and when to come
back; `CallTimeout` that one ran out of time; `Cancelled` that its caller gave it up; `Stopped` that a mapping ended
early; `JournalError` that results cannot be recorded. No error carries a prompt, an answer, a key or an argument, and
all can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)


class GuardError(Exception):
    """Root of every error that llm_guard raises of its own."""

    def __reduce__(self) -> tuple[Callable[..., GuardError], tuple[Any, ...]]:
        # Past __init__, whose keyword arguments pickle's default would not know how to give.
        return rebuild, (type(self), self.args, self.__dict__.copy())


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # an int of too many digits, a repr that raises
        return f"<{type(value).__name__}>"


def rebuild(cls: type[E], args: tuple[Any, ...], state: dict[str, Any]) -> E:
    """What was pickled, past its `__init__`."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(GuardError, ValueError):
    """An option that cannot work, found where it is given.

    `parameter` is its name, `value` what was given, `allowed` what is allowed.
    """

    def __init__(self, parameter: str, value: object, allowed: str) -> None:
        super().__init__(f"{parameter}={_shown(value)} is not allowed: {allowed}")
        self.parameter = parameter
        self.value = value
        self.allowed = allowed

    def __reduce__(self) -> tuple[Callable[..., GuardError], tuple[Any, ...]]:
        rebuild, (cls, args, state) = super().__reduce__()
        import pickle  # not everybody needs it

        try:
            pickle.dumps(self.value)
        except Exception:  # a lock, a local function: its picture must do
            state["value"] = _shown(self.value)
        return rebuild, (cls, args, state)


class Rejected(GuardError):
    """The call never started: nothing was sent.

    `policy` names the part that refused it; `retry_after` says in how many seconds it may be worth another try, or is
    None where nobody knows. `by_key`: it was the limit of the call's own key (a user's, a tenant's) that had no room.
    """

    by_key = False  # also where a class that comes from this one has an `__init__` of its own

    def __init__(self, message: str, *, policy: str, retry_after: float | None = None, by_key: bool = False) -> None:
        super().__init__(message)
        self.policy = policy
        self.retry_after = retry_after
        self.by_key = by_key


class Saturated(Rejected):
    """No room in time: the wait at the door reached its bound or the call's deadline."""


class QuotaExhausted(Rejected):
    """The account behind the API has used up its quota; no call is worth making before `retry_after`."""


class CallTimeout(GuardError, TimeoutError):
    """The call ran out of time after it had started.

    `seconds` is the bound that it reached. `still_running` is True where the function could not be stopped and runs on
    in its worker thread; what it returns is dropped. `bound` tells which one it was: "total", and of a stream also
    "first_item", "idle" (between two items) or "deadline".
    """

    def __init__(self, message: str, *, seconds: float, still_running: bool = False, bound: str = "total") -> None:
        super().__init__(message)
        self.seconds = seconds
        self.still_running = still_running
        self.bound = bound


class Stopped(GuardError):
    """A mapping ended before its input, since it was not worth going on; raised after all results there were.

    `reason` is "quota" (the account is exhausted), "failures" or "failure_rate" (`stop_after`); `succeeded` and
    `failed` count the results, those recorded earlier included; `retry_after` says in how many seconds it may be worth
    another try, or is None where nobody knows. Its `__cause__` is the error that was one too many.
    """

    def __init__(self, message: str, *, reason: str, succeeded: int = 0, failed: int = 0,
                 retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.succeeded = succeeded
        self.failed = failed
        self.retry_after = retry_after


class Cancelled(GuardError):
    """The call was given up by its caller: before it could start, at the door, or between two attempts."""


class JournalError(GuardError):
    """The journal at `path` cannot be used, or cannot take a result: nothing that was yielded is lost."""

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class JournalBusy(JournalError):
    """Another mapping uses the journal; `pid` is its process, or None where that is not known."""

    def __init__(self, message: str, *, path: str, pid: int | None = None) -> None:
        super().__init__(message, path=path)
        self.pid = pid
