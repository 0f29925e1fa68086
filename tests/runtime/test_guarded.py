"""A guarded function looks like the bare one, and carries its stack."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import operator
import pickle
import threading
from typing import Any

import pytest
from scripted import Server, Task, read

from llm_guard import ConfigError, bounded, breaker, fallback, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.events import CallEnded, Event
from llm_guard.outcome import Kind
from llm_guard.policies.retry import RetryStatistics
from llm_guard.runtime.guarded import guarded_functions


@ramp_up
@bounded(3)
@timeout(20)
@retry
@breaker
def ask(prompt: str, *, loud: bool = False) -> str:
    """Asks a model."""
    return prompt.upper() if loud else prompt


ask.__wrapped__.__dict__["marked"] = True


class Client:
    """Has guarded methods of all kinds."""

    limit = bounded(1)

    def __init__(self, name: str = "client") -> None:
        self.name = name

    @limit
    @retry
    def ask(self, prompt: str) -> str:
        """Asks."""
        return f"{self.name}: {prompt}"

    @staticmethod
    @retry
    def static(prompt: str) -> str:
        return prompt

    @classmethod
    @retry
    def of_class(cls, prompt: str) -> str:
        return f"{cls.__name__}: {prompt}"

    @property
    @retry
    def size(self) -> int:
        return len(self.name)

    first = retry(operator.itemgetter(0))


class Child(Client):
    @timeout(5)
    def ask(self, prompt: str) -> str:
        return "child of " + super().ask(prompt)


@pytest.fixture(autouse=True)
def _virtual() -> Any:
    with VirtualClock() as time:
        yield time


def test_it_is_called_like_the_bare_one() -> None:
    assert ask("hello", loud=True) == "HELLO"
    assert ask(prompt="hello") == "hello"


def test_it_looks_like_the_bare_one() -> None:
    assert (ask.__name__, ask.__qualname__, ask.__doc__, ask.__module__) == ("ask", "ask", "Asks a model.", __name__)
    assert str(inspect.signature(ask)) == "(prompt: 'str', *, loud: 'bool' = False) -> 'str'"
    assert inspect.unwrap(ask) is ask.__wrapped__
    assert inspect.isfunction(ask.__wrapped__)


def test_a_decorator_between_two_guards_is_kept_and_whoever_listens_beneath_it_is_told_of_no_more() -> None:
    told: list[Event] = []
    inner = retry(lambda: "answer")
    inner.on_event(told.append)

    @functools.wraps(inner)
    def between() -> str:
        return "between"

    outer = bounded(2)(between)
    assert outer.__wrapped__ is between
    assert outer() == "between"
    assert told == []
    bare = functools.wraps(ask)(lambda: None)
    assert bare.__name__ == "ask"


def test_a_call_that_does_not_fit_its_signature_is_a_type_error_at_once() -> None:
    with pytest.raises(TypeError, match="prompt"):
        ask()  # type: ignore[call-arg]
    assert ask.statistics()["breaker"].calls >= 0


def test_arguments_of_any_name_reach_the_function() -> None:
    @bounded(1)
    @retry
    def takes_all(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    names = dict.fromkeys(("self", "function", "args", "kwargs", "timeout", "deadline", "chosen", "instance"), 1)
    assert takes_all(2, **names) == ((2,), names)
    assert stack(retry()).call(takes_all.__wrapped__, 2, **names) == ((2,), names)


def test_guards_and_statistics_list_the_policies_from_the_outermost() -> None:
    assert [policy.name for policy in ask.guards] == ["ramp_up", "bounded", "timeout", "retry", "breaker"]
    assert list(ask.statistics()) == [policy.name for policy in ask.guards]
    assert ask.statistics()["retry"] == RetryStatistics(8, 600.0)
    with pytest.raises(AttributeError):
        ask.statistics()["retry"].attempts = 3


def test_a_second_policy_of_a_name_gets_a_number() -> None:
    guarded = bounded(3)(timeout(9)(retry(bounded(2)(bounded(1)(lambda: None)))))
    assert list(guarded.statistics()) == ["bounded", "timeout", "retry", "bounded#2", "bounded#3"]
    assert [guarded.statistics()[name].limit for name in ("bounded", "bounded#2", "bounded#3")] == [3, 2, 1]


def test_each_decorator_makes_a_new_function_and_leaves_the_one_below() -> None:
    below = retry(lambda: "answer")
    above = bounded(1)(below)
    assert (len(below.guards), len(above.guards)) == (1, 2)
    assert above.__wrapped__ is below.__wrapped__
    assert above() == below() == "answer"


def test_it_is_pickled_by_reference() -> None:
    assert pickle.loads(pickle.dumps(ask)) is ask
    assert pickle.loads(pickle.dumps(Client.ask)) is Client.ask
    assert b"retry" not in pickle.dumps(ask)


def test_a_bound_method_is_pickled_with_its_instance() -> None:
    method = pickle.loads(pickle.dumps(Client("pickled").ask))
    assert method("hello") == "pickled: hello"


def test_a_copy_is_the_same_function() -> None:
    assert copy.copy(ask) is ask
    assert copy.deepcopy({"function": ask})["function"] is ask
    assert copy.copy(Client("copied").ask)("hello") == "copied: hello"


def test_methods_are_bound_and_share_one_state() -> None:
    one, two = Client("one"), Client("two")
    assert one.ask("hello") == "one: hello"
    assert Client.ask(two, "hello") == "two: hello"
    assert one.ask.guards == two.ask.guards == Client.ask.guards
    assert str(inspect.signature(one.ask)) == "(prompt: 'str') -> 'str'"
    assert (one.ask.__name__, one.ask.__doc__, one.ask.__qualname__) == ("ask", "Asks.", "Client.ask")


def test_bound_methods_are_equal_as_bound_methods_are() -> None:
    one, two = Client("one"), Client("two")
    assert one.ask == one.ask
    assert one.ask != two.ask
    assert hash(one.ask) == hash(one.ask)
    assert len({one.ask, one.ask, two.ask}) == 2


def test_a_bound_method_can_be_guarded_further() -> None:
    limit = bounded(1)
    guarded = limit(Client("further").ask)
    assert guarded("hello") == "further: hello"
    assert [policy.name for policy in guarded.guards] == ["bounded", "bounded", "retry"]


def test_what_a_subclass_overrides_calls_its_parent_and_passes_what_both_hold() -> None:
    assert Child("kid").ask("hello") == "child of kid: hello"
    assert Client.limit.statistics().in_flight == 0


def test_static_and_class_methods_and_properties_are_guarded_from_beneath() -> None:
    untyped: Any = Client  # type checkers bind only plain functions beneath these
    assert untyped.static("hello") == untyped().static("hello") == "hello"
    assert untyped.of_class("hello") == untyped().of_class("hello") == "Client: hello"
    assert Client("four").size == 4


def test_what_does_not_bind_is_no_method() -> None:
    client: Any = Client()
    assert Client.first("hello") == client.first("hello") == "h"


@pytest.mark.parametrize("policy", [retry(), bounded(1), timeout(5), ramp_up(), stack(retry())], ids=repr)
@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_class_and_static_methods_are_refused_from_above(kind: Any, policy: Any) -> None:
    with pytest.raises(ConfigError, match=f"beneath @{kind.__name__}") as error:
        policy(kind(lambda _: None))
    assert error.value.parameter == "function"


def test_partials_callable_objects_and_builtins_can_be_guarded() -> None:
    server = Server(Kind.FAILURE)
    assert retry(functools.partial(ask, loud=True))("hello") == "HELLO"
    assert retry(classify=read)(server)("hello") == "hello"
    assert retry(len)("four") == 4
    assert repr(retry(len)) == "<guarded len: @retry>"
    assert "partial" in repr(retry(functools.partial(ask, "secret")))
    assert "secret" not in repr(retry(functools.partial(ask, "secret")))


def test_reprs_tell_of_policies_and_of_no_payload() -> None:
    assert repr(ask) == "<guarded ask: @ramp_up @bounded @timeout @retry @breaker>"
    assert repr(Client("secret").ask) == "<guarded Client.ask: @bounded @retry>"
    reprs = {"ramp_up(ceiling=5)": ramp_up(ceiling=5), "ramp_up()": ramp_up(), "bounded(3)": bounded(3),
             "timeout(2.5)": timeout(2.5), "retry(attempts=4)": retry(attempts=4), "fallback(...)": fallback("secret"),
             "stack(retry, bounded)": stack(retry(), bounded(1))}
    assert [repr(policy) for policy in reprs.values()] == list(reprs)


def test_attributes_of_the_function_are_kept() -> None:
    def marked() -> None: ...

    marked.owner = "me"  # type: ignore[attr-defined]
    assert vars(retry(marked))["owner"] == "me"


def test_it_can_be_called_from_many_threads_of_one_bound_method() -> None:
    idents: set[int] = set()

    class Slow:
        @bounded(2)
        def ask(self) -> int:
            time.sleep(1)
            idents.add(threading.get_ident())
            return Slow.ask.guards[0].statistics().in_flight  # type: ignore[no-any-return]

    with VirtualClock() as time:
        slow = Slow()
        tasks = [Task(slow.ask) for _ in range(6)]
        assert max(task.wait() for task in tasks) <= 2
    assert len(idents) == 6


def test_all_that_is_guarded_and_in_use_is_listed() -> None:
    @retry
    def ask() -> None: ...

    class Client:
        @retry
        def tell(self) -> None: ...

    assert {ask, Client.tell} <= set(guarded_functions())
    bound = Client().tell
    assert bound not in guarded_functions()  # the class's is
    names = {ask.label, Client.tell.label}
    del ask, Client, bound
    gc.collect()
    assert not names & {function.label for function in guarded_functions()}


def test_takers_of_one_function_hear_of_it_alone() -> None:
    ask, other = retry(lambda: None), retry(lambda: None)
    taken: list[tuple[object, ...]] = []
    off = ask.take_events({CallEnded: lambda *facts: taken.append(facts)})
    with VirtualClock():
        ask()
        other()
        off()
        ask()
    (number, *facts), = taken
    assert number
    assert facts == [0.0, ask.label, 1, Kind.SUCCESS, 0.0]
