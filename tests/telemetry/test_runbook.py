"""The runbook has every line, state, metric and error there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import llm_guard
from llm_guard.outcome import Kind
from llm_guard.telemetry.prometheus import Prometheus
from llm_guard.telemetry.readings import STATES

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "llm_guard"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
#: Modules whose every sentence is a part of some line, and the functions of others of which that is true.
WORDS = {"state/pace_words.py": None, "telemetry/logging.py": None, "telemetry/rarely.py": None,
         "state/pace_story.py": {"_line", "_reason"}, "policies/breaker.py": {"_why"},
         "policies/ramp_up.py": {"_of_keys"}, "telemetry/steer.py": {"_held", "_loop"}, "telemetry/steering.py": None}
LOGGED = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def _texts(tree: ast.AST) -> Iterator[str]:
    """The literals in it, docstrings and formats left out."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            left_out.add(id(node.body[0].value))  # type: ignore[attr-defined]  # a docstring is an expression
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            left_out.update(map(id, ast.walk(node.format_spec)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.value


def _sentences() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith("testing/"):
            continue
        tree = ast.parse(path.read_text())
        if place in WORDS:
            chosen = WORDS[place]
            parts = [tree] if chosen is None else [
                node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in chosen]
            assert parts
            for part in parts:
                yield from ((place, text) for text in _texts(part))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            where, _, what = called.rpartition(".")
            if called in ("self._log", "NoMeasure") or (
                    what in LOGGED and where in ("_log", "log", "logger", "events", "logging")):
                yield from ((place, text) for text in _texts(node))


def _pieces() -> list[tuple[str, str]]:
    """What stands between numbers and names in any line, where it is more than one word."""
    found = {(place, piece.strip(" ,;:()")) for place, text in _sentences()
             for piece in re.split(r"%s|%d|\{state\}", text)}
    return sorted((place, piece) for place, piece in found if " " in piece)


def test_there_are_lines_to_look_for() -> None:
    found = {piece for _, piece in _pieces()}
    assert {"model is loading, next probe", "calls fail one after another", "and is dropped", "calls are refused by",
            "telemetry raised", "steered to a measure of", "the measure is gone",
            "the newest sample is", "trials find out if it may close"} <= found
    assert len(found) > 40


@pytest.mark.parametrize(("place", "piece"), _pieces(), ids=[f"{place} {piece}" for place, piece in _pieces()])
def test_each_line_is_in_the_runbook(place: str, piece: str) -> None:
    assert piece in RUNBOOK


def test_each_state_kind_and_error_is_in_the_runbook() -> None:
    states = {f"| {policy} | {state} |" for policy, all_of in STATES.items() for state in all_of}
    errors = {f"| `{name}` |" for name, found in vars(llm_guard).items()
              if isinstance(found, type) and issubclass(found, llm_guard.GuardError)} - {"| `GuardError` |",
                                                                                         "| `Rejected` |"}
    missing = {each for each in states | errors | {kind.value for kind in Kind} if each not in RUNBOOK}
    assert errors
    assert not missing


def test_each_metric_is_in_the_runbook_and_no_other() -> None:
    registry = CollectorRegistry()
    with Prometheus(registry).watch(llm_guard.bounded(1)(dir)):
        names = {metric.name + ("_total" if metric.type == "counter" else "") for metric in registry.collect()}
    assert len(names) > 12
    for name in names:
        assert f"`{name.removeprefix('llm_guard_')}`" in RUNBOOK, name
    used = set(re.findall(r"llm_guard_[a-z_]+[a-z]", RUNBOOK))
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert used - names == set()
