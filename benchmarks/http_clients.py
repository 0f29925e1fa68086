"""Ways to call an LLM's API over HTTP, each with its library whole: its own loop, clock, waits and dice.

All send by `llm_guard.llm.huggingface`, which is requests, with the scenario's timeout. Settings are those of
`strategies/`, where the same ways run in virtual time. Two follow the server's speed: that timeout, and the capacity
that pyrate-limiter is told. The waits of the ways themselves do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import requests
from adaptive_concurrency import AdaptiveConfig, run_adaptive
from pyrate_limiter import Limiter
from requests.adapters import HTTPAdapter
from strategies import fixed, tries
from tenacity import retry as tenacity_retry
from tenacity import stop_after_attempt, wait_random_exponential
from urllib3.util import Retry

from llm_guard import map_with_backpressure, ramp_up, retry, timeout
from llm_guard.llm import AnswerError, huggingface, outcome_of
from llm_guard.outcome import FAILURES, REFUSALS, Kind
from llm_guard.testing.server import Reason
from llm_guard.testing.simulation import Setting
from llm_guard.testing.virtual_server import ServerFailed, ServerRefused, ServerTimeout

#: From a prompt to its answer.
Ask = Callable[[str], str]
#: An answer, or the error of a call that was given up.
End = str | Exception
#: Sends the prompts to the server at the URL; what came back, in any order. What it never sent is left out.
Way = Callable[[str, Sequence[str], Setting], Iterable[End]]

#: How a call ends that was given up. Any other error is a mistake of the benchmark's.
GIVEN_UP = (requests.RequestException, AnswerError, ServerRefused, ServerFailed, ServerTimeout)
_REASONS = {Kind.LOADING: Reason.LOADING, Kind.LIMITED: Reason.LIMITED, Kind.OVERLOAD: Reason.OVERLOAD}


def guarded(url: str, prompts: Sequence[str], setting: Setting) -> Iterable[End]:
    """This project's stack, on its mapping."""
    post = post_to(url, setting)

    @ramp_up
    @retry
    @timeout(setting.timeout)
    def ask(prompt: str) -> str:
        return post(prompt)

    return map_with_backpressure(ask, prompts, workers=setting.threads, ordered=False, on_error="return")


def tenacity_pool(url: str, prompts: Sequence[str], setting: Setting) -> Iterable[End]:
    """A thread pool and tenacity, as most scripts have it."""
    return pooled(five_tries(post_to(url, setting)), prompts, setting)


def patient_pool(url: str, prompts: Sequence[str], setting: Setting) -> Iterable[End]:
    """The same with the patience of `llm_guard.retry`: 8 failures, refusals for 600 s, the server's hint as a floor.

    The rule and the sleep are those of `strategies.tries`, the loop is tenacity's. What a response means is read by
    `llm_guard.llm`: a hint is Retry-After, or the wait that the body of a server that loads tells.
    """
    post = post_to(url, setting)

    def attempt(prompt: object) -> str:
        try:
            return post(str(prompt))
        except (requests.RequestException, AnswerError) as error:
            raise said_by(error) from error

    return pooled(tries.patient(attempt), prompts, setting)


def pyrate_limiter(url: str, prompts: Sequence[str], setting: Setting) -> Iterable[End]:
    """pyrate-limiter at 0.9 of the true capacity, each attempt blocking until it has its place, and 5 tries."""
    post = post_to(url, setting)
    with Limiter(fixed.rate_of(fixed.SHARE * setting.capacity)) as limiter:
        def attempt(prompt: str) -> str:
            limiter.try_acquire("call")
            return post(prompt)

        return pooled(five_tries(attempt), prompts, setting)


def adaptive_concurrency(url: str, prompts: Sequence[str], setting: Setting) -> Iterable[End]:
    """The package adaptive-concurrency: its `run_adaptive` has the threads, and decides how many work.

    It gets batches of one prompt, and a function that makes 5 tries, since it makes no further one itself; an item that
    waits for its next try holds its worker. 2 workers at first, as in its README, and as many as there are threads at
    the most. After 8 items in a row without an answer it ends the run; what it then has not sent counts as unanswered.
    """
    ask = five_tries(post_to(url, setting))
    ends: list[End] = []

    def process(batch: list[str]) -> tuple[bool, int, str]:
        end = end_of(ask, batch[0])
        ends.append(end)
        answered = isinstance(end, str)
        return answered, int(answered), "" if answered else repr(end)

    config = AdaptiveConfig(workers=min(2, setting.threads), max_workers=setting.threads, batch_size=1)
    run_adaptive(prompts, process, config)
    return ends


class WholeSecondsRetry(Retry):
    """urllib3's, with a Retry-After rounded up to whole seconds, as HTTP has it: at a fraction, which this server
    sends, it raises. Kinder to it than the fraction, since all who were refused come back at the same instant."""

    def parse_retry_after(self, retry_after: str) -> float:
        try:
            return super().parse_retry_after(str(math.ceil(float(retry_after))))
        except ValueError:  # a date
            return super().parse_retry_after(retry_after)


def urllib3_retry(url: str, prompts: Sequence[str], setting: Setting) -> Iterable[End]:
    """A thread pool, and urllib3's retries under requests: 5 further tries, at once and after 1, 2, 4, 8 s or as long
    as Retry-After says, of any method (as it comes it would not send a POST again)."""
    retries = WholeSecondsRetry(total=5, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503),
                                allowed_methods=None, respect_retry_after_header=True)
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retries, pool_maxsize=setting.threads))
        return pooled(post_to(url, setting, session), prompts, setting)


#: By name. Those of `strategies` are called as there.
WAYS: dict[str, Way] = {
    "llm_guard": guarded,
    "tenacity pool": tenacity_pool,
    "tenacity pool, patient": patient_pool,
    "pyrate-limiter": pyrate_limiter,
    "adaptive-concurrency": adaptive_concurrency,
    "urllib3 Retry": urllib3_retry,
}
#: Those that are told what the server really bears.
TOLD = frozenset({"pyrate-limiter"})


def post_to(url: str, setting: Setting, session: requests.Session | None = None) -> Ask:
    """One call to the server, which raises for every status of 400 and above."""
    return huggingface("my/model", url=url, timeout=setting.timeout, session=session)


def five_tries(ask: Ask) -> Ask:
    """As people use tenacity: 5 attempts, full jitter over 1, 2, 4, 8 s, whatever the error was."""
    return tenacity_retry(stop=stop_after_attempt(5), wait=wait_random_exponential(), reraise=True)(ask)


def pooled(ask: Ask, prompts: Sequence[str], setting: Setting) -> list[End]:
    """Every thread calls at once."""
    with ThreadPoolExecutor(setting.threads) as pool:
        return list(pool.map(lambda prompt: end_of(ask, prompt), prompts))


def end_of(ask: Ask, prompt: str) -> End:
    """The answer, or the error with which the call was given up."""
    try:
        return ask(prompt)
    except GIVEN_UP as error:
        return error


def said_by(error: Exception) -> Exception:
    """What the server meant, in the words of `strategies.tries`; the error as it is where it means none of these."""
    outcome = outcome_of(error)
    if outcome is None or outcome.kind not in REFUSALS | FAILURES:
        return error
    if outcome.kind in FAILURES:
        return ServerTimeout() if outcome.kind is Kind.TIMEOUT else ServerFailed()
    return ServerRefused(_REASONS.get(outcome.kind, Reason.LIMITED), outcome.hint)
