"""botocore's adaptive retry mode: a token bucket whose rate follows CUBIC, and a quota on retries.

botocore's own: `ClientRateLimiter` with its `CubicCalculator`, `RateClocker` and `TokenBucket`, and, as people use it,
the standard mode's `RetryHandler`: 3 attempts, a quota of 500 of which a retry takes 14 or 5, U(0, 1) x 2^n seconds
after a throttling error and a twentieth of it after others, 20 s at most. All of it is what `retries={"mode":
"adaptive"}` sets up.

Not botocore's: the clock, the condition on which its bucket waits, the order of those who wait, the dice, and what the
server's ends look like to it: a limit and an overload are 429, loading is the 503 `SlowDown` that AWS's servers know
(both are throttling errors; were loading a bare 503, the quota would be gone in a second, and the batch with it), a
failure is 500, a hint comes in AWS's own header. The patient form has the rate limiter under that patience, without the
quota, which bounds the number of tries.
"""

from __future__ import annotations

from typing import Any

from botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError  # type: ignore[import-untyped]
from botocore.model import ServiceModel  # type: ignore[import-untyped]
from botocore.retries import adaptive, bucket, quota, standard, throttling  # type: ignore[import-untyped]

from llm_guard.clock import chance, current
from llm_guard.outcome import Kind
from llm_guard.testing.simulation import Call, Client, ServerCall, Setting, Strategy
from llm_guard.testing.virtual_server import ServerRefused
from strategies.tries import Attempt, Retry, client, kind_of, patient
from strategies.waiting import Condition, Turnstile, sleep, time_left

URL = "https://server.example"
#: An operation without errors of its own, as botocore's retry rules ask for one.
ASK = ServiceModel({"metadata": {}, "operations": {"Ask": {"name": "Ask"}}, "shapes": {}}, "llm").operation_model("Ask")
#: An answer, or the error of an attempt.
Ended = str | Exception
#: The arguments of botocore's `needs-retry`.
Event = dict[str, Any]


class BotoClock(bucket.Clock):  # type: ignore[misc]
    """botocore's clock, which is the one in force."""

    def sleep(self, amount: float) -> None:
        sleep(amount)

    def current_time(self) -> float:
        return current().now()


def rate_limiter(detector: standard.ThrottlingErrorDetector) -> adaptive.ClientRateLimiter:
    """botocore's, put together as its `register_retry_handler` does."""
    clock = BotoClock()
    tokens = bucket.TokenBucket(max_rate=1, clock=clock)
    tokens._new_fill_rate_condition = Condition(tokens._lock)
    return adaptive.ClientRateLimiter(
        rate_adjustor=throttling.CubicCalculator(starting_max_rate=0, start_time=clock.current_time()),
        rate_clocker=adaptive.RateClocker(clock), token_bucket=tokens, throttling_detector=detector, clock=clock)


class Adaptive:
    """What an AWS client has of retries: the limiter, and the handler of the standard mode."""

    def __init__(self) -> None:
        adapter = standard.RetryEventAdapter()
        detector = standard.ThrottlingErrorDetector(adapter)
        self.limiter = rate_limiter(detector)
        self._turnstile = Turnstile()
        self.quota = standard.RetryQuotaChecker(quota.RetryQuota(), detector)
        backoff = standard.ExponentialBackoff(random=chance.random, throttling_detector=detector)
        policy = standard.RetryPolicy(retry_checker=standard.StandardRetryConditions(), retry_backoff=backoff)
        self.handler = standard.RetryHandler(policy, adapter, self.quota, sleep=sleep)

    def attempt(self, call: Call, item: object, number: int, context: dict[str, object]) -> tuple[Ended, Event]:
        """One attempt, paced; its end, and the event that botocore would send of it."""
        with self._turnstile:
            self.limiter.on_sending_request(None)
        ended: Ended
        try:
            ended = call(item)
        except Exception as error:
            if kind_of(error) is None:
                raise
            ended = error
        event = event_of(ended, number, context)
        return ended, event


def event_of(ended: Ended, number: int, context: dict[str, object]) -> Event:
    """What botocore's handlers are told after the attempt of that number. `context`: the request's own."""
    response, caught = None, None
    match ended:
        case str():
            response = _response(200)
        case ServerRefused(kind=Kind.LOADING, hint=hint):
            response = _response(503, "SlowDown", hint)
        case ServerRefused(kind=Kind.FAILURE):
            caught = ConnectionClosedError(endpoint_url=URL)
        case ServerRefused(hint=hint):
            response = _response(429, "ThrottlingException", hint)
        case TimeoutError():
            caught = ReadTimeoutError(endpoint_url=URL)
        case _:
            response = _response(500, "InternalServerError")
    return {"response": response, "attempts": number, "operation": ASK, "caught_exception": caught,
            "request_dict": {"context": context}}


def _response(status: int, code: str | None = None, hint: float | None = None) -> tuple[AWSResponse, dict[str, Any]]:
    headers = {} if hint is None else {"x-amz-retry-after": str(int(hint * 1000))}
    return AWSResponse(URL, status, headers, None), {} if code is None else {"Error": {"Code": code}}


def standard_tries(setting: Setting) -> Client:
    """As people use it: the adaptive mode as it is."""
    state = Adaptive()

    def retry(paced: Call) -> Call:
        def call(item: object) -> str:
            context: dict[str, object] = {}
            number = 1
            while True:
                ended, event = state.attempt(paced, item, number, context)
                delay = state.handler.needs_retry(**event)
                state.limiter.on_receiving_response(**event)
                if isinstance(ended, str):
                    state.quota.release_retry_quota(context, event["response"][0])
                    return ended
                if delay is None or time_left() <= 0:
                    raise ended
                sleep(delay)
                number += 1

        return call

    return client(setting, _bare(setting), retry)


def patient_tries(setting: Setting) -> Client:
    """The limiter alone, under that patience."""
    state = Adaptive()

    def retry(call: Call) -> Call:
        def once(item: object) -> str:
            ended, event = state.attempt(call, item, 1, {})
            state.limiter.on_receiving_response(**event)
            if isinstance(ended, str):
                return ended
            raise ended

        return patient(once)

    return client(setting, _bare(setting), retry)


def strategy(retry: Retry | None = None) -> Strategy:
    """The adaptive mode as it is, or, with `patient`, its limiter under that patience."""
    return Strategy(patient_tries if retry is patient else standard_tries)


def _bare(setting: Setting) -> Attempt:
    def attempt(call: ServerCall) -> Call:
        return lambda item: call(item, timeout=setting.timeout)

    return attempt
