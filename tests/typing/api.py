"""What a type checker must see of the API; read by mypy, never run. `tests/runtime/test_typing_api.py` checks it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, assert_type

from llm_guard import (
    BlockingExecutor,
    CallTimeout,
    CircuitOpen,
    Journal,
    Kind,
    Outcome,
    Rejected,
    Result,
    Stream,
    bounded,
    breaker,
    deadline,
    fallback,
    map_with_backpressure,
    ramp_up,
    retry,
    stack,
    stop_after,
    stream,
    timeout,
)
from llm_guard.llm import Text, Usage, anthropic, huggingface, ollama, openai
from llm_guard.llm.ready import Prompt
from llm_guard.mapping.iterator import Mapping
from llm_guard.mapping.journal.records import Records
from llm_guard.policies.bounded import Bounded, BoundedStatistics
from llm_guard.policies.breaker import Breaker
from llm_guard.policies.ramp_up import RampUp, RampUpStatistics
from llm_guard.policies.retry import Retry
from llm_guard.policies.timeout import Timeout
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.policy import Policy
from llm_guard.runtime.stack import Stack
from llm_guard.testing.simulation import Call, Run, ServerCall, Setting, Strategy, simulate

# Bare and called forms keep the signature.


@ramp_up
@bounded(32)
@timeout(20)
@retry
@breaker
def bare(prompt: str, *, loud: bool = False) -> bytes:
    return prompt.encode()


@fallback("other")
@ramp_up(start=1, ceiling=10)
@bounded(32, max_wait=5, holds="call")
@timeout(20, max_still_running=8)
@deadline(60)
@retry(attempts=3, retry_on=(OSError, ValueError))
@breaker(failure_rate=0.3, window_seconds=30)
def called(prompt: str, count: int = 1) -> list[str]:
    return [prompt] * count


@timeout
def timed() -> None: ...


assert_type(bare("hello", loud=True), bytes)
assert_type(called("hello", count=2), list[str])
assert_type(timed(), None)
bare(3)  # type: ignore[arg-type]
bare("hello", True)  # type: ignore[call-arg]
bare("hello", quiet=True)  # type: ignore[call-arg]
called()  # type: ignore[call-arg]

a_function: Callable[[str], bytes] = bare
assert_type(called.guards, tuple[Policy, ...])
assert_type(called.statistics(), dict[str, Any])
assert_type(bare.on_event(print), Callable[[], None])

# Calls under other settings.

assert_type(bare.with_options(timeout=60)("hello"), bytes)
assert_type(called.with_options(deadline=5, attempts=2, max_refusal_wait=9, max_wait=1)("hello", 3), list[str])
bare.with_options(patience=3)  # type: ignore[call-arg]
bare.with_options(timeout=60)(3)  # type: ignore[arg-type]

# Methods.


class Client:
    @retry
    @bounded(8)
    def ask(self, prompt: str) -> str:
        return prompt

    @property
    @timeout(5)
    def models(self) -> list[str]:
        return []


client = Client()
assert_type(client.ask("hello"), str)
assert_type(Client.ask(client, "hello"), str)
assert_type(client.ask.with_options(timeout=5)("hello"), str)
assert_type(client.models, list[str])
client.ask(3)  # type: ignore[arg-type]
client.ask()  # type: ignore[call-arg]

# A state for each key.


@ramp_up(key="model", start=1, ceiling=10, ramp_time=60, max_growth=(1.5, 900), idle=None)
@bounded(8, per_key=lambda prompt, model="small": model, max_keys=10)
def keyed(prompt: str, model: str = "small") -> bytes:
    return prompt.encode()


class Tenant:
    @bounded(2, per_key="self")
    @ramp_up(key=lambda self, prompt: prompt[0])
    def ask(self, prompt: str) -> str:
        return prompt


assert_type(keyed("hello", model="large"), bytes)
assert_type(Tenant().ask("hello"), str)
keyed(3)  # type: ignore[arg-type]
keyed("hello", model=3)  # type: ignore[arg-type]
keyed("hello", key="large")  # type: ignore[call-arg]
Tenant().ask()  # type: ignore[call-arg]
ramp_up(key=3)  # type: ignore[call-overload]
ramp_up(max_growth=1.5)  # type: ignore[call-overload]
bounded(8, per_key=3)  # type: ignore[arg-type]
assert_type(ramp_up(key="model").statistics_of("large"), RampUpStatistics)
assert_type(bounded(8, per_key=len).statistics_of(3), BoundedStatistics)
ramp_up(key="model").pause(60, key=("a", "pair"))
ramp_up(key="model").pause(60, key=["a", "list"])  # type: ignore[arg-type]

# Policies as objects.

assert_type(retry(), Retry)
assert_type(timeout(5), Timeout)
assert_type(breaker(), Breaker)
assert_type(ramp_up(), RampUp)
assert_type(bounded(5), Bounded)
assert_type(retry(lambda: 3)(), int)
assert_type(retry(a_function), Guarded[[str], bytes])
pace = ramp_up(ceiling=5)
assert_type(pace(len)("four"), int)
assert_type(pace.ceiling, float | None)
bounded("8")  # type: ignore[arg-type]
timeout("1")  # type: ignore[call-overload]
retry(tries=3)  # type: ignore[call-overload]

# Stacks.

guard = stack(ramp_up(), bounded(8), retry())
assert_type(guard, Stack)


@guard
def stacked(prompt: str) -> int:
    return len(prompt)


assert_type(stacked("hello"), int)
assert_type(guard.call(len, "hello"), int)
guard.call(len, 3)  # type: ignore[arg-type]
stack("retry")  # type: ignore[arg-type]

# Streams.


@ramp_up
@bounded(8)
@retry
@timeout(60, first_item=10, idle=5)
def streamed(prompt: str, *, loud: bool = False) -> Iterator[str]:
    yield prompt


@timeout(idle=5)
@retry
def conversed(prompt: str) -> Generator[str, int, bytes]:
    got = yield prompt
    return bytes(got)


@retry
@stream
def returned(prompt: str) -> list[bytes]:
    return [prompt.encode()]


@stream()
def returned_too(prompt: str) -> Iterator[int]:
    return iter([len(prompt)])


class Streamer:
    @retry
    def ask(self, prompt: str) -> Iterator[str]:
        yield prompt


assert_type(streamed("hello", loud=True), Iterator[str])
assert_type(conversed("hello"), Generator[str, int, bytes])
assert_type(conversed("hello").send(3), str)
assert_type(returned("hello"), Stream[bytes])
assert_type(next(returned_too("hello")), int)
with returned("hello") as open_stream:
    assert_type(list(open_stream), list[bytes])
assert_type(Streamer().ask("hello"), Iterator[str])
assert_type(streamed.with_options(timeout=60)("hello"), Iterator[str])
assert_type(guard.call(streamed, "hello"), Iterator[str])
assert_type(list(map_with_backpressure(lambda prompt: list(streamed(prompt)), ["a"])), list[list[str]])
assert_type(timeout(None, first_item=5).first_item, float | None)
streamed(3)  # type: ignore[arg-type]
conversed("hello").send("text")  # type: ignore[arg-type]
stream(len)  # type: ignore[arg-type]
stream(3)  # type: ignore[call-overload]
timeout(first_item="5")  # type: ignore[call-overload]

# Classify.


def classify(end: object) -> Outcome | Kind | None:
    return Kind.LIMITED if isinstance(end, OSError) else None


retry(classify=classify)
retry(classify=lambda end: Outcome(Kind.LIMITED, hint=3.0))
retry(classify=lambda end: "limited")  # type: ignore[arg-type, return-value]

# Mapping.


def words() -> Iterator[str]:
    yield "hello"


assert_type(list(map_with_backpressure(bare, words())), list[bytes])
assert_type(map_with_backpressure(stacked, words()), Mapping[str, int, int])
assert_type(list(map_with_backpressure(stacked, words(), on_error="raise")), list[int])
assert_type(list(map_with_backpressure(stacked, words(), on_error="return")), list[int | Exception])
assert_type(list(map_with_backpressure(stacked, words(), results=True)), list[Result[str, int]])
assert_type(list(map_with_backpressure(stacked, words(), on_error="return", results=True)), list[Result[str, int]])
assert_type(list(map_with_backpressure(client.ask, ["a"], workers=4, ordered=False, buffer=2)), list[str])
assert_type(list(map_with_backpressure(stacked, words(), stop_after=stop_after(3), partition_by=len)), list[int])
map_with_backpressure(stacked, words(), partition_by=lambda word: word + 1)  # type: ignore[operator]
map_with_backpressure(stacked, words(), stop_after=3)  # type: ignore[call-overload]
map_with_backpressure(stacked, words()).stop()
assert_type(list(map_with_backpressure(stacked, words(), journal="run.db")), list[int])
assert_type(list(map_with_backpressure(stacked, words(), journal=Journal("run.db", batch=1), key=len,
                                       on_error="return")), list[int | Exception])
assert_type(map_with_backpressure(stacked, words(), journal=Path("run.db"), key=lambda word: (word, 1), results=True),
            Mapping[str, int, Result[str, int]])
assert_type(Journal.read("run.db"), Records)
map_with_backpressure(stacked, words(), journal="run.db", key=lambda word: 1.5)  # type: ignore[arg-type, return-value]
map_with_backpressure(stacked, [1, 2])  # type: ignore[arg-type]
map_with_backpressure(stacked, words(), on_error="ignore")  # type: ignore[call-overload]
assert_type(BlockingExecutor(3, buffer=2).submit(stacked, "hello").result(), int)

# Errors.


def after(error: Exception) -> float | None:
    if isinstance(error, Rejected):
        assert_type(error.policy, str)
        return error.retry_after
    if isinstance(error, CallTimeout):
        assert_type(error.still_running, bool)
        assert_type(error.bound, str)
        return error.seconds
    if isinstance(error, CircuitOpen):
        return error.failure_rate
    return None


# What can be the client of a simulation.

assert_type(simulate("A", stack(ramp_up(), retry()), seed=1), Run)
simulate("A", ramp_up())


def a_decorator(call: ServerCall) -> Call:
    return lambda item: call(item, timeout=3.0)


@Strategy
def a_strategy(setting: Setting) -> Stack:
    return stack(ramp_up(), timeout(setting.timeout))


def not_marked(setting: Setting) -> Stack:
    return stack(timeout(setting.timeout))


simulate("A", a_decorator)
simulate("A", a_strategy)
simulate("A", Strategy(not_marked))
simulate("A", not_marked)  # type: ignore[arg-type]
assert_type(stack(retry()).anew(), Stack)
assert_type(ramp_up().anew(), RampUp)


# Ready calls.

assert_type(openai("m"), Callable[[Prompt], Text])
assert_type(openai("m", endpoint="completion", stream=False)("hello").usage, Usage | None)
assert_type(ollama("m", stream=True), Callable[[Prompt], Generator[str, None, Text]])
assert_type(anthropic("m", max_tokens=5)([{"role": "user", "content": "hello"}]), Text)
assert_type(list(map_with_backpressure(ramp_up(huggingface("m")), words())), list[Text])
openai("m", endpoint="embeddings")  # type: ignore[call-overload]
anthropic("m", key=3)  # type: ignore[call-overload]
openai("m")(3)  # type: ignore[arg-type]
