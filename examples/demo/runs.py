"""The same prompts, sent in two ways. Both make the same call; each returns what came back for each prompt."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests
from watch import Stats, Watch

from llm_guard import bounded, breaker, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.llm import huggingface

#: What came back for each prompt, an answer or an error, and what the server saw.
Run = tuple[dict[str, str | Exception], Stats]

MODEL = "my/model"


def guarded(url: str, prompts: list[str]) -> Run:
    """Through the five decorators."""
    call = huggingface(MODEL, url=url)

    @ramp_up
    @bounded(32)
    @retry
    @timeout(20)
    @breaker
    def ask(prompt: str) -> str:
        return call(prompt)

    def state() -> str:
        statistics = ask.statistics()
        circuit = statistics["breaker"].state
        return str(statistics["ramp_up"].pace.state) + ("" if circuit == "closed" else f", circuit {circuit}")

    with Watch("llm_guard", url, len(prompts), state) as watch:
        answers = dict(zip(prompts, map_with_backpressure(ask, prompts, on_error="return"), strict=True))
    return answers, watch.finished


def plain(url: str, prompts: list[str]) -> Run:
    """Through a plain thread pool and a retry loop as they are often written: 32 threads, 5 tries with backoff."""
    call = huggingface(MODEL, url=url, timeout=20)  # raises for every status of 400 and above

    with Watch("plain pool", url, len(prompts), lambda: "") as watch, ThreadPoolExecutor(32) as pool:
        answers = dict(zip(prompts, pool.map(lambda prompt: five_tries(call, prompt), prompts), strict=True))
    return answers, watch.finished


def five_tries(call: Callable[[str], str], prompt: str) -> str | Exception:
    wait = 0.5
    for _ in range(4):
        try:
            return call(prompt)
        except requests.RequestException:
            time.sleep(wait * random.uniform(0.5, 1.5))
            wait *= 2
    try:
        return call(prompt)
    except requests.RequestException as error:
        return error
