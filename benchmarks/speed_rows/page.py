"""The table as a page, as figures, and its head for the README."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timing

from speed_rows.row import HEAD, Row, shown

#: What has to be said of the peers' limiters, of which the fastest counts.
LIMITERS_DIFFER = """Of the four limiters none does what `@ramp_up` does, which finds the rate by itself. ratelimit (a
lock and a counter; raises, or sleeps until the window ends) and limits (raises) count within fixed windows, so that
twice the rate may pass where two windows meet. throttled-py keeps an even pace by a generic cell rate algorithm, as
`@ramp_up` does, and pyrate-limiter a log of the calls in a sliding window; both raise or wait. The goal goes by the
fastest of the four; the ratio to the fastest of the last two is beside."""
#: Why a goal is not reached, where that is known; by part, or by part and figure.
REASONS = {
    "@breaker":
        "pybreaker counts failures in a row, under a lock that it holds while the function runs. Here a guarded "
        "call by itself costs nearly what all of pybreaker does; the rest is the door, passed twice, and a vote "
        "in a window.",
    "@bounded":
        "a BoundedSemaphore is a lock and a counter. Here a guarded call by itself costs nearly what all of it "
        "does; the rest is the door: a request, its lock passed twice, the list of who is inside, and an outcome.",
    "@retry @ramp_up @bounded @breaker":
        "their sum, of which the law of `@ramp_up` is half: some thirty small steps of arithmetic for each start "
        "and each end.",
    "@timeout":
        "two switches of threads through raw locks take about half of it, and a pool takes as much. The rest: a "
        "worker that may be left behind, context variables that go along and come back, and what the call can be "
        "cut off by.",
    "@timeout, 32 threads":
        "as alone; and a pool's workers take jobs from one queue, so that one may do several in a row without a "
        "switch of threads. Here a worker is woken for each, for a call that hangs must hold up no other.",
    "all five":
        "a hand-over to a worker, and the four others.",
    "bucket":
        "between its grant and its going on a thread wakes the next in line, which sets an alarm of its own. That "
        "each sets its alarm when it comes, for the turn that is foreseen then, was tried: as late, and on a busy "
        "machine more waits than before.",
    "LeakyBucket, 5,000 threads wait at 200/s":
        "each grant ends two waits: of who goes on, and of who is next and sets its alarm; both come from far "
        "down the caches.",
    "@ramp_up, 5,000 threads wait at 200/s":
        "the same, and the law of the pace.",
    "@ramp_up":
        "ratelimit is a lock and a counter that starts anew each period. `@ramp_up` keeps an even pace and a "
        "limit on what is in flight, and learns from how and how fast each call ended.",
    "contended, 64 threads: fastest thread over slowest":
        "a thread that holds the interpreter may keep it for 5 ms; what threads get that share nothing is beside.",
    "all five on a function: bytes of its state":
        "five policies keep a state each. Of 5.8 KB `@ramp_up` has 2.3 (1.3 of them its law), `@breaker` 0.8 with "
        "its window and its place in circuitbreaker's Monitor, `@retry` 0.6, `@bounded` and `@timeout` 0.3 each; "
        "the function, its stack and its plan 1.0; and the weak references by which a fork finds them 0.5.",
    "@ramp_up: bytes of its state":
        "1.3 KB are the law's: a hundred numbers and references, of 8 bytes each and a number's own 24, in eleven "
        "objects (window, rate, bucket, latencies, gate, allowance, story), each with a head of 32. 1.0 KB are "
        "the policy's, with its pace, its gate at the door and the options to make it anew from; 0.7 KB what each "
        "guarded function has. In one object it would still be above the goal.",
    "@breaker: bytes of its state":
        "on Python 3.13 the dict that a circuit shares with its place in circuitbreaker's Monitor takes 0.34 KB, on "
        "those before 0.2.",
}
#: Between these two lines of the README stands the head of the table.
BEGINS, ENDS = "<!-- of docs/speed.md -->", "<!-- to here -->"


def summary(rows: Sequence[Row]) -> str:
    """How many goals are reached, and which are not."""
    return "\n".join([_count(rows), *(f"not reached: {row.name} is {row.value:.2f}, the goal {row.goal:g}"
                                      for row in rows if row.reached is False)])


def _count(rows: Sequence[Row]) -> str:
    judged = [row.reached for row in rows if row.reached is not None]
    return f"{sum(judged)} of {len(judged)} goals reached"


def _reasons(rows: Sequence[Row]) -> str:
    """Of the goals that are not reached, as a list."""
    return "".join(f"- **{name}**: {reason}\n" for name, reason in REASONS.items()
                   if any(row.reached is False and (row.part == name or row.name.startswith(name)) for row in rows))


def write(directory: Path, rows: Sequence[Row], about: dict[str, Any]) -> None:
    """speed.md and speed.json."""
    directory.mkdir(parents=True, exist_ok=True)
    goals = [row.cells() for row in rows if row.goal is not None]
    others = [row.cells() for row in rows if row.goal is None]
    text = f"""# What it costs

Written by `make bench`. {timing.line_of(about["machine"])}.
{timing.line_of(about["versions"])}.

Whatever is timed beside a peer took turns with it; medians of {about["rounds"]} rounds, a ratio is the median of the
ratios within one round. Who gets how much among threads is one long run, and the bucket's rate and bound are those at
the grant. CPU is that of the whole process. `benchmarks/speed.py` and the modules of `benchmarks/speed_rows` say how
each is measured.

{_count(rows)}.

{timing.table(HEAD, goals, markdown=True)}

{_reasons(rows)}
{LIMITERS_DIFFER}

## Beside them

What each promise of the runner costs, in microseconds of CPU that a call takes more; what is brought in when it is
first needed; and the same beside other peers.

{timing.table(HEAD, others, markdown=True)}

![How the cost of a call grows with calls made, keys, waiters and window length](speed.svg)
"""
    (directory / "speed.md").write_text(text, encoding="utf-8")
    figures = {**about, "rows": [row.facts() for row in rows]}
    (directory / "speed.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def put_into(readme: Path, rows: Sequence[Row]) -> None:
    """Writes the ratios to the peers in place of those that stand there, first those that have a goal."""
    text = readme.read_text(encoding="utf-8")
    before, begins, rest = text.partition(f"{BEGINS}\n")
    _, ends, after = rest.partition(f"\n{ENDS}\n")
    if not begins or not ends:
        raise SystemExit(f"{readme} has no lines {BEGINS} and {ENDS}")
    lines = ["| | CPU | goal |", "|---|---|---|"]
    for row in sorted(rows, key=lambda row: row.goal is None):
        if row.steady and row.figure.startswith("CPU, times"):
            goal = "" if row.goal is None else f"{row.goal:g}{'' if row.reached else ', not reached'}"
            lines.append(f"| {row.part} | {shown(row.value)} of {row.figure.removeprefix('CPU, times ')} | {goal} |")
    readme.write_text(before + begins + "\n".join(lines) + ends + after, encoding="utf-8")
