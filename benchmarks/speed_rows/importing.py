"""What `import llm_guard` takes, beside `import tenacity`, and what is brought in later: fresh processes, in turns.

All find their bytecode written, in a directory of this run: the first of each is not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from tempfile import TemporaryDirectory

from speed_rows.row import Effort, Row
from speed_rows.turns import ratio

#: `import llm_guard` alone gets its names when they are asked for; this is what most who use it ask for.
NAMES = "from llm_guard import retry, ramp_up, bounded, breaker, timeout, map_with_backpressure"
#: Each is timed where the first has been run.
SUBJECTS = {"llm_guard": ("", "import llm_guard"), "tenacity": ("", "import tenacity"), "names": ("", NAMES),
            "requests": (NAMES, "import requests"), "backoff": (NAMES, "import backoff"),
            "circuitbreaker": (NAMES, "import circuitbreaker"),
            "the first @bounded": (NAMES, "bounded(8)(abs)(-1)"),
            "the first @retry": (NAMES, "retry(abs)(-1)"),
            "the first @breaker": (NAMES, "breaker(abs)(-1)")}
LATER = ("requests", "backoff", "circuitbreaker", "asyncio")

_PROGRAM = "import sys, time; {first}; began = time.process_time(); {then}; print(time.process_time() - began)"


def rows(effort: Effort) -> list[Row]:
    names = list(SUBJECTS)[:3] if effort.few else list(SUBJECTS)
    took: dict[str, list[float]] = {name: [] for name in names}
    with TemporaryDirectory() as bytecode:
        for number in range(1 + max(3, effort.rounds)):
            for name in names:
                seconds = seconds_of(*SUBJECTS[name], bytecode)
                if number:
                    took[name].append(seconds)
        brought = run(f"import llm_guard, sys; print(*(name for name in {LATER!r} if name in sys.modules))", bytecode)
    milliseconds = {name: 1000 * median(all_of_it) for name, all_of_it in took.items()}
    part = "import llm_guard"
    return [
        Row(part, "CPU, times import tenacity", ratio(took["llm_guard"], took["tenacity"]), 1.0, steady=True,
            beside=f"ms: {milliseconds['llm_guard']:.0f}, tenacity {milliseconds['tenacity']:.0f}"),
        Row(part, "CPU, times import tenacity, with five decorators and the mapping",
            ratio(took["names"], took["tenacity"]), steady=True,
            beside=f"ms: {milliseconds['names']:.0f}, tenacity {milliseconds['tenacity']:.0f}"),
        Row(part, f"of {', '.join(LATER)}: brought in at once", len(brought.split()), 0, beside=brought.strip()),
        *(Row(name, "ms when first needed", milliseconds[name]) for name in names[3:])]


def seconds_of(first: str, then: str, bytecode: str) -> float:
    """Processor time of a new process."""
    return float(run(_PROGRAM.format(first=first or "pass", then=then), bytecode))


def run(program: str, bytecode: str) -> str:
    """What it prints; it keeps its bytecode in that directory."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env=environment).stdout
