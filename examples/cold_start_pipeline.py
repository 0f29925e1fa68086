"""The toy that llm_guard grew from: a flaky call, mapped over 100 inputs, four at a time.

    python examples/cold_start_pipeline.py                    # ten runs in virtual time, at once
    python examples/cold_start_pipeline.py --real --seed 1    # one run in real time, about a minute

One attempt in five takes 3 s, the others 0.3 s; one in ten of those that finish fails. With a timeout of 2 s an attempt
fails 28% of the time, so with two retries one input in 45 fails for good (0.28 ** 3). In the toy's first form that ends
the whole run. Under llm_guard's decorators all 100 inputs are answered; it takes longer where the breaker opens, as it
does now and then over a call this flaky.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from random import Random

from llm_guard import bounded, breaker, clock, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock

INPUTS = range(100)


class Flaky:
    """The call: doubles its input, slowly at times, and not always. Counts its attempts."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self.attempts = 0

    def __call__(self, item: int) -> int:
        self.attempts += 1
        slow, fails = self._chance.random() < 0.2, self._chance.random() < 0.1
        clock.current().sleep(3.0 if slow else 0.3)
        if fails:
            raise ConnectionError("this attempt failed")
        return 2 * item


def first_form(flaky: Flaky) -> list[int]:
    """Four threads, a timeout of 2 s, two retries after 300 ms; the first input that fails three times ends the run."""
    time = clock.current()
    inputs = iter(INPUTS)
    answers: list[int] = []
    failed: list[int] = []
    over = time.waiter()

    def work() -> None:
        for item in inputs:
            answer = three_tries(flaky, item)
            if answer is None:
                failed.append(item)
            elif not failed:
                answers.append(answer)
            if failed or len(answers) == len(INPUTS):
                over.set()
                return

    for _ in range(4):
        time.spawn(work, "worker")
    over.wait()
    return answers


def three_tries(flaky: Flaky, item: int) -> int | None:
    for attempt in range(3):
        if attempt > 0:
            clock.current().sleep(0.3)
        answer = within_two_seconds(lambda: flaky(item))
        if answer is not None:
            return answer
    return None


def within_two_seconds(call: Callable[[], int]) -> int | None:
    """As `future.result(timeout=2)` has it: a call that takes longer runs on, unheard. None: no answer."""
    ended = clock.current().waiter()
    answers: list[int] = []

    def run() -> None:
        try:
            answers.append(call())
        except ConnectionError:
            pass
        ended.set()

    clock.current().spawn(run, "attempt")
    return answers[0] if ended.wait(2.0) and answers else None


def guarded_form(flaky: Flaky) -> list[int]:
    """The same under the decorators. The timeout stands below the retry, for it bounds each attempt."""

    @ramp_up
    @bounded(4)
    @retry
    @timeout(2)
    @breaker
    def call(item: int) -> int:
        return flaky(item)

    return list(map_with_backpressure(call, INPUTS))


def run(form: Callable[[Flaky], list[int]], seed: int, real: bool) -> tuple[int, int, float]:
    """How many answers, with how many attempts, in how many seconds."""
    flaky = Flaky(seed)
    with nullcontext() if real else VirtualClock(seed):
        began = clock.current().now()
        answers = form(flaky)
        return len(answers), flaky.attempts, clock.current().now() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="The toy that llm_guard grew from, in its first form and guarded.")
    parser.add_argument("--real", action="store_true", help="in real time instead of virtual time")
    parser.add_argument("--seed", type=int, default=0, help="fixes the chance of the first run (default: 0)")
    parser.add_argument("--runs", type=int, help="how many, each with the next seed (default: 10, in real time 1)")
    chosen = parser.parse_args()
    runs = chosen.runs or (1 if chosen.real else 10)
    print(f"{'':4}{'first form':>34}{'llm_guard':>34}")
    print(f"{'seed':4}" + f"{'answered':>14}{'attempts':>10}{'seconds':>10}" * 2)
    for seed in range(chosen.seed, chosen.seed + runs):
        print(f"{seed:4}", end="", flush=True)
        for form in (first_form, guarded_form):
            answered, attempts, seconds = run(form, seed, chosen.real)
            print(f"{answered:>7} of {len(INPUTS)}{attempts:>10}{seconds:>10.1f}", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
