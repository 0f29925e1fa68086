"""The errors: one tree, each with its facts, all of which survive a pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading

import pytest

from llm_guard import errors
from llm_guard.errors import (
    CallTimeout,
    Cancelled,
    ConfigError,
    GuardError,
    JournalBusy,
    JournalError,
    QuotaExhausted,
    Rejected,
    Saturated,
    Stopped,
)

EACH = [
    GuardError("root"),
    ConfigError("rate", -1.5, "a finite number above 0"),
    Rejected("refused", policy="breaker", retry_after=2.5),
    Saturated("no room", policy="bounded"),
    QuotaExhausted("used up", policy="ramp_up", retry_after=60.0),
    CallTimeout("no answer within 20 s", seconds=20.0, still_running=True),
    Stopped("enough", reason="failures", succeeded=5, failed=3, retry_after=2.0),
    Cancelled("given up"),
    JournalError("the disk is full", path="run.db"),
    JournalBusy("in use", path="run.db", pid=7),
]


def test_no_class_of_the_tree_is_missing_here() -> None:
    classes = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, GuardError)}
    assert {type(error) for error in EACH} == classes


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", EACH, ids=lambda error: type(error).__name__)
def test_an_error_survives_a_pickle_with_its_facts_and_notes(error: GuardError, protocol: int) -> None:
    noted = copy.copy(error)
    noted.add_note("given up after 3 attempts")
    back = pickle.loads(pickle.dumps(noted, protocol))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.args == error.args
    assert vars(back) == {**vars(error), "__notes__": ["given up after 3 attempts"]}
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("error", EACH, ids=lambda error: type(error).__name__)
def test_a_deep_copy_is_another_error_with_the_same_facts(error: GuardError) -> None:
    twin = copy.deepcopy(error)
    assert twin is not error
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))


class _ByCode(Rejected):
    """What a user may derive: an __init__ with a signature of its own."""

    def __init__(self, code: int, *, tenant: str) -> None:
        super().__init__(f"code {code}", policy="mine", retry_after=1.0)
        self.code = code
        self.tenant = tenant


def test_a_users_subclass_survives_a_pickle() -> None:
    back = pickle.loads(pickle.dumps(_ByCode(7, tenant="a")))
    assert type(back) is _ByCode
    assert (back.code, back.tenant, back.policy, back.retry_after, str(back)) == (7, "a", "mine", 1.0, "code 7")


@pytest.mark.parametrize("value", [lambda: None, threading.Lock()], ids=["a local function", "a lock"])
def test_a_config_error_survives_a_pickle_whatever_the_value(value: object) -> None:
    back = pickle.loads(pickle.dumps(ConfigError("n", value, "a whole number of at least 1")))
    assert type(back) is ConfigError
    assert (back.parameter, back.allowed) == ("n", "a whole number of at least 1")


@pytest.mark.parametrize(("error", "bases"), [
    (EACH[1], (GuardError, ValueError)),
    (EACH[2], (GuardError,)),
    (EACH[3], (Rejected,)),
    (EACH[4], (Rejected,)),
    (EACH[5], (GuardError, TimeoutError)),
    (EACH[6], (GuardError,)),
    (EACH[7], (GuardError,)),
    (EACH[8], (GuardError,)),
    (EACH[9], (JournalError,)),
], ids=lambda given: type(given).__name__)
def test_an_error_is_what_it_claims_to_be(error: GuardError, bases: tuple[type[BaseException], ...]) -> None:
    for base in (*bases, GuardError, Exception):
        assert isinstance(error, base)


def test_a_call_that_ran_out_of_time_or_was_given_up_is_not_one_that_never_started() -> None:
    assert not isinstance(EACH[5], Rejected)
    assert not isinstance(EACH[6], Rejected)


def test_a_config_error_names_parameter_value_and_what_is_allowed() -> None:
    error = ConfigError("rate", -1.5, "a finite number above 0")
    assert (error.parameter, error.value, error.allowed) == ("rate", -1.5, "a finite number above 0")
    for part in ("rate", "-1.5", "a finite number above 0"):
        assert part in str(error)


def test_what_is_unknown_is_none_and_what_is_stopped_does_not_run() -> None:
    assert Rejected("refused", policy="door").retry_after is None
    assert CallTimeout("late", seconds=1.0).still_running is False


def test_a_timeout_is_no_error_of_the_operating_system() -> None:
    error = CallTimeout("late", seconds=1.0)
    assert error.errno is None
    assert str(error) == "late"


def test_an_error_of_a_journal_names_its_file_and_who_uses_it() -> None:
    error = JournalBusy("in use", path="run.db", pid=7)
    assert (error.path, error.pid, str(error)) == ("run.db", 7, "run.db: in use")
    assert JournalBusy("in use", path="run.db").pid is None
