"""Jobs on threads of their own, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from llm_guard.clock.virtual import VirtualClock, VirtualWaiter


def all_of(clock: VirtualClock, jobs: Sequence[Callable[[], object]]) -> None:
    """Runs each job on a thread of its own and waits for all, or until one fails: raises what it raised. It waits on a
    waiter of its own, not on one that the clock makes."""
    done, ended, errors = VirtualWaiter(clock), [], []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)
        finally:
            ended.append(1)
            if errors or len(ended) == len(jobs):
                done.set()

    for job in jobs:
        clock.spawn(partial(run, job), "job")
    if jobs:
        done.wait()
    if errors:
        raise errors[0]
