"""Holds the house of ARCHITECTURE.md: who may import what, and who may ask for the time."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "llm_guard"
FLOORS: list[set[str]] = [
    {"errors", "outcome", "checks", "clock", "events", "call", "fork", "weaklist"},
    {"state"},
    {"runtime"},
    {"policies"},
    {"mapping", "llm"},
    {"testing", "telemetry"},
    {"web", "cli"},
    {"__main__"},
]
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
#: Libraries, and the one place that may import them.
LIBRARIES: dict[str, str] = {
    "backoff": "state/schedule.py", "circuitbreaker": "state/circuit.py", "requests": "llm/", "urllib3": "llm/",
    "httpx": "llm/", "httpx2": "llm/", "httpcore": "llm/", "httpcore2": "llm/",
    "tqdm": "mapping/", "click": "cli/", "rich": "cli/", "flask": "web/", "django": "web/",
    "prometheus_client": "telemetry/", "statsd": "telemetry/", "opentelemetry": "telemetry/"}
OF_TIME = ("clock/", "testing/cold_server/")
MODULES = sorted(PACKAGE.rglob("*.py"))


class Import(NamedTuple):
    """`names` is None for a plain `import module`."""

    module: str
    names: tuple[str, ...] | None
    line: int


def _place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(tree: ast.AST) -> Iterator[Import]:
    """All imports at any depth, those for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the floor that they reach"
            yield Import(node.module or "", tuple(alias.name for alias in node.names), node.lineno)


def _own(found: Import) -> Iterator[str]:
    """The modules of llm_guard that it reaches, below the top."""
    if found.module == "llm_guard":
        yield from found.names or ()
    elif found.module.startswith("llm_guard."):
        yield found.module.removeprefix("llm_guard.")


def _wrong_imports(place: str, source: str) -> list[str]:
    """The imports of a module that the house does not allow."""
    room = place.split("/")[0].removesuffix(".py")
    wrong = []
    for found in _imports(ast.parse(source)):
        for reached in _own(found):
            other = reached.split(".")[0]
            if room == "__init__":
                continue
            if other not in ROOMS:
                wrong.append(f"{place}:{found.line} imports {reached}, which has no floor")
            elif other != room and ROOMS[other] >= ROOMS[room] and not (ROOMS[room] == 0 == ROOMS[other]):
                wrong.append(f"{place}:{found.line} imports {reached} from floor {ROOMS[other]}")
            elif other == room == "policies":
                wrong.append(f"{place}:{found.line} imports the policy {reached}")
        library = found.module.split(".")[0]
        if library in LIBRARIES and not place.startswith(LIBRARIES[library]):
            wrong.append(f"{place}:{found.line} imports {library}")
    return wrong


#: What passes or tells time, blocks, starts threads or draws chance, by module; other names of these are harmless.
HARMLESS = {
    "threading": {"RLock", "Lock", "local", "get_ident", "_register_atexit", "TIMEOUT_MAX", "current_thread"},
    "_thread": {"allocate_lock", "get_ident", "LockType", "RLock"},
    "random": {"Random"},
    "concurrent": {"futures"},
    "concurrent.futures": {"Future", "ThreadPoolExecutor", "Executor", "CancelledError"},
    "queue": {"SimpleQueue", "Empty"},
    "time": set[str](),
    "sched": set[str](),
    "asyncio": set[str](),
    "select": set[str](),
    "multiprocessing": set[str](),
}
#: Methods that read the machine's clock, whatever they are called on.
OF_DATETIME = {"utcnow", "today"}


def _uses_of_time(place: str, source: str) -> list[str]:
    """What a module does with time, threads and chance past the clock."""
    tree = ast.parse(source)
    wrong = []
    modules: dict[str, str] = {}  # how a module is called here
    holds_futures = False
    for found in _imports(tree):
        harmless = HARMLESS.get(found.module)
        holds_futures |= found.module.startswith("concurrent")
        if found.names is None and harmless is not None:
            modules[found.module] = found.module
        elif found.names is not None and harmless is not None:
            wrong += [f"{place}:{found.line} imports {found.module}.{name}" for name in found.names
                      if name not in harmless]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname: alias.name for alias in node.names if alias.asname and alias.name in HARMLESS}
        if not isinstance(node, ast.Attribute):
            continue
        called = ast.unparse(node.value)
        if called in modules and node.attr not in HARMLESS[modules[called]]:
            wrong.append(f"{place}:{node.lineno} uses {called}.{node.attr}")
        elif node.attr in OF_DATETIME or ast.unparse(node) in ("datetime.now", "datetime.datetime.now"):
            wrong.append(f"{place}:{node.lineno} uses {ast.unparse(node)}")
        elif holds_futures and node.attr in ("result", "exception"):
            wrong.append(f"{place}:{node.lineno} waits for a future")
    return wrong


@pytest.mark.parametrize("path", MODULES, ids=_place)
def test_imports_run_downwards(path: Path) -> None:
    assert not _wrong_imports(_place(path), path.read_text())


@pytest.mark.parametrize("path", [path for path in MODULES if not _place(path).startswith(OF_TIME)], ids=_place)
def test_time_waiting_threads_and_chance_pass_through_the_clock(path: Path) -> None:
    assert not _uses_of_time(_place(path), path.read_text())


def test_every_room_has_a_floor() -> None:
    assert {_room(path) for path in MODULES} <= {"__init__", *ROOMS}


@pytest.mark.parametrize(("place", "line"), [
    ("errors.py", "from llm_guard.state.line import Line"),
    ("state/line.py", "from llm_guard.runtime import door"),
    ("state/line.py", "import llm_guard.policies.retry"),
    ("runtime/stack.py", "def late():\n    from llm_guard.policies.retry import retry"),
    ("policies/retry.py", "from llm_guard.policies.breaker import breaker"),
    ("policies/retry.py", "import llm_guard.mapping"),
    ("mapping/mapping.py", "from llm_guard.llm import signals"),
    ("llm/signals.py", "from llm_guard import testing"),
    ("runtime/stack.py", "from llm_guard import retry"),
    ("policies/breaker.py", "import circuitbreaker"),
    ("state/tries.py", "def late():\n    import backoff.types"),
    ("mapping/mapping.py", "from requests.adapters import HTTPAdapter"),
])
def test_a_wrong_import_is_found(place: str, line: str) -> None:
    assert _wrong_imports(place, line)


@pytest.mark.parametrize("source", [
    "import time\ntime.sleep(1)", "from time import monotonic", "import time as t\nt.perf_counter()",
    "import threading\nthreading.Thread(target=print)", "from threading import Condition",
    "import random\nrandom.random()", "from random import uniform",
    "from datetime import datetime\ndatetime.now()", "import queue\nqueue.Queue()",
    "from concurrent.futures import Future\ndef f(future): return future.result()",
    "from concurrent.futures import wait", "def late():\n    from threading import Event",
    "from _thread import start_new_thread", "import concurrent.futures as futures\nfutures.as_completed([])",
])
def test_a_use_of_time_past_the_clock_is_found(source: str) -> None:
    assert _uses_of_time("state/line.py", source)


@pytest.mark.parametrize("source", [
    "from llm_guard import clock\ntime = clock.current()\ntime.sleep(1)", "import threading\nthreading.local()",
    "from random import Random", "job.result()",
])
def test_what_is_harmless_is_let_be(source: str) -> None:
    assert not _uses_of_time("state/line.py", source)


@pytest.mark.real
@pytest.mark.parametrize(("use", "brought", "threads"), [
    ("None", [], 1), ("llm_guard.ramp_up(llm_guard.bounded(1)(dir))()", [], 1),
    ("llm_guard.timeout(5)(dir)()", [], 2),
    ("llm_guard.retry(dir)()", ["backoff"], 1), ("llm_guard.breaker(dir)()", ["circuitbreaker"], 1)],
    ids=["import alone", "ramp_up and bounded", "timeout", "retry", "breaker"])
def test_libraries_are_imported_and_threads_started_when_they_are_first_needed(use: str, brought: list[str],
                                                                              threads: int) -> None:
    code = (f"import sys, threading, llm_guard; {use}; "
            f"print([name for name in {sorted(LIBRARIES)!r} if name in sys.modules], threading.active_count())")
    found = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True,
                           timeout=60)
    assert found.stdout.strip() == f"{brought} {threads}"
