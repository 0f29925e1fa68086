"""What `import llm_guard` brings in, and the names that it gets when somebody asks for them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import llm_guard

ROOT = Path(llm_guard.__file__).parents[1]
NAMES = "from llm_guard import retry, ramp_up, bounded, breaker, timeout, map_with_backpressure"
HEAVY = ("asyncio", "dataclasses", "inspect", "json", "logging", "sqlite3")


def printed(code: str) -> Any:
    """What a new process says, as JSON."""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
                           timeout=60)
    return json.loads(ended.stdout)


def brought_in(by: str) -> set[str]:
    # The list is written out by hand: json, imported beforehand, could not be seen to come.
    return set(printed(f"import sys; before = set(sys.modules); {by}; "
                       "print(str(sorted(set(sys.modules) - before)).replace(chr(39), chr(34)))"))


@pytest.mark.real
def test_the_package_alone_is_its_errors_and_outcomes_and_what_it_hands_down() -> None:
    found = brought_in("import llm_guard")
    assert {name for name in found if name.startswith("llm_guard")} == {
        "llm_guard", "llm_guard.errors", "llm_guard.outcome", "llm_guard.runtime", "llm_guard.runtime.reading",
        "llm_guard.mapping", "llm_guard.mapping.journal", "llm_guard.mapping.journal.forms"}
    assert not found.intersection(HEAVY)


@pytest.mark.real
def test_the_decorators_bring_in_the_logger_and_nothing_that_makes_code() -> None:
    found = brought_in(NAMES)
    assert found.intersection(HEAVY) == {"logging"}
    assert not {name for name in found if name.startswith(("llm_guard.llm", "llm_guard.testing", "llm_guard.telemetry",
                                                           "llm_guard.mapping.progress_watch", "llm_guard.events.facts",
                                                           "llm_guard.mapping.journal.journal"))}


def test_every_name_is_there_is_listed_and_stays_the_same() -> None:
    for name in llm_guard.__all__:
        assert name in dir(llm_guard)
        assert getattr(llm_guard, name) is getattr(llm_guard, name)
        assert getattr(llm_guard, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'retries'"):
        llm_guard.retries  # type: ignore[attr-defined]  # noqa: B018


def test_a_late_name_is_what_type_checkers_take_it_for() -> None:
    tree = ast.parse(Path(llm_guard.__file__).read_text())
    unseen = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(unseen.test) == "TYPE_CHECKING"
    told = {alias.name: (node.module or "").removeprefix("llm_guard.")
            for node in unseen.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == llm_guard._LATE
    assert set(llm_guard._LATE) < set(llm_guard.__all__)


def test_every_kind_of_event_is_there_and_is_listed() -> None:
    from llm_guard import events

    for name in events.__all__:
        assert name in dir(events)
        assert getattr(events, name) is getattr(events, name)
    with pytest.raises(AttributeError, match="no attribute 'CallStarted'"):
        events.CallStarted  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.real
def test_no_late_name_is_in_a_part_of_a_package_that_imports_its_parts() -> None:
    # Two threads that import two such parts wait for each other: each holds its part and wants the package.
    packages = {f"llm_guard.{module.rpartition('.')[0]}" for module in llm_guard._LATE.values() if "." in module}
    alone, found = brought_in("import llm_guard"), brought_in(f"import {', '.join(sorted(packages))}")
    assert {name for name in found - alone if name.startswith("llm_guard")} == packages - alone


@pytest.mark.real
def test_threads_that_are_the_first_to_ask_get_the_same() -> None:
    code = """
import json, random, sys, threading
sys.setswitchinterval(1e-6)
import llm_guard
start, found = threading.Barrier(12), []
def ask(seed):
    names = list(llm_guard.__all__)
    random.Random(seed).shuffle(names)
    start.wait()
    found.append({name: id(getattr(llm_guard, name)) for name in names})
threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([len(found), all(each == found[0] for each in found)]))
"""
    for _ in range(5):
        assert printed(code) == [12, True]


@pytest.mark.real
def test_an_end_that_is_no_plain_value_imports_nothing_in_the_call() -> None:
    code = """
import json, sys
from llm_guard import retry
before = set()
@retry(attempts=1)
def ask():
    before.update(sys.modules)
    raise ConnectionError
try:
    ask()
except ConnectionError:
    print(json.dumps(sorted(set(sys.modules) - before)))
"""
    assert printed(code) == []
