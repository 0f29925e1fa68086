"""How calls fare against servers that start cold, limit, grow weak and fail: the real code, in virtual time.

    from llm_guard.testing.simulation import simulate
    run = simulate("A")
    print(run.success, run.calls_per_answer, run.against_best, run.wait())

`python -m llm_guard.testing.simulation A C --seeds 3 --plot out.svg` prints and draws the same. A client is anything
that wraps the server's call: a `Stack`, or a decorator of your own; a `Strategy` is told what it is to call.
"""

from llm_guard.testing.simulation.client import Call, Client, ServerCall, Setting, Strategy, recommended
from llm_guard.testing.simulation.run import Item, NoAnswer, Run, Sample, jain
from llm_guard.testing.simulation.simulate import simulate
from llm_guard.testing.simulation.story import Line
from llm_guard.testing.simulation.summary import Spread, Summary, markdown
from llm_guard.testing.simulation.workload import DEADLINE, Arrivals

__all__ = [
    "DEADLINE",
    "Arrivals",
    "Call",
    "Client",
    "Item",
    "Line",
    "NoAnswer",
    "Run",
    "Sample",
    "ServerCall",
    "Setting",
    "Spread",
    "Strategy",
    "Summary",
    "jain",
    "markdown",
    "recommended",
    "simulate",
]
