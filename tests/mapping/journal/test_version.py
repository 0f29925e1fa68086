"""A function is known by its name and by what it does."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_guard import bounded, ramp_up, retry, timeout
from llm_guard.llm import openai
from llm_guard.mapping.journal.version import function_name, function_version

SOURCE = '''
import functools
from llm_guard import bounded, retry

TEMPLATE = "Summarise: {}"
MESSAGES = [{"role": "system", "content": "Be brief."}]
LIMIT = 100
calls = 0

class Asker:
    style = "short"

    def __init__(self, volatile=0):
        self.volatile = volatile

    def ask(self, item):
        return self.style + item

    def __call__(self, item):
        return self.ask(item)

def prompt(item):
    return TEMPLATE.format(item)

@retry(attempts=3)
@bounded(4)
def ask(item, *, tone="kind"):
    """Asks."""
    global calls
    calls += 1
    cache.append(item)
    if item in {"a", "b", "c", "d"}:
        return [part for part in item]
    inner = lambda text: text + "!"
    return inner(prompt(item))[:LIMIT] + str(MESSAGES)

cache = []

def other():
    pass

def template(item):
    return TEMPLATE + item

def messages(item):
    return [*MESSAGES, item]

def closed(style):
    def inside(item):
        return style + item
    return inside
'''


def module(source: str, path: Path, name: str = "asked") -> dict[str, Any]:
    """The source as a module in its file."""
    file = path / f"{name}.py"
    file.write_text(source)
    import types

    made = types.ModuleType(name)
    made.__file__ = str(file)
    sys.modules[name] = made
    exec(compile(source, str(file), "exec"), made.__dict__)
    return made.__dict__


@pytest.fixture
def version(tmp_path: Path) -> Any:
    """The version of a function of the source, after replacements in it."""
    made = iter(range(100))

    def of(name: str, *changes: tuple[str, str]) -> str:
        source = SOURCE
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        path = tmp_path / str(next(made))
        path.mkdir()
        names = module(source, path)
        return function_version(eval(name, names))

    yield of
    sys.modules.pop("asked", None)


NOTICED = {
    "its code": ("ask", '+ "!"', '+ "?"'),
    "a constant": ("ask", '"d"}', '"e"}'),
    "a default": ("ask", 'tone="kind"', 'tone="rude"'),
    "a template of the module": ("template", "Summarise", "Summarize"),
    "a template that a function it calls takes": ("ask", "Summarise", "Summarize"),
    "a number of the module": ("ask", "LIMIT = 100", "LIMIT = 200"),
    "a list of the module, as the source has it": ("messages", "Be brief.", "Be long."),
    "code of a function that it calls": ("ask", "TEMPLATE.format(item)", "TEMPLATE.format(item, 1)"),
    "code of a lambda around it": ("lambda item: ask(item)", '+ "!"', '+ "?"'),
    "what a closure holds": ("closed(TEMPLATE)", "Summarise", "Summarize"),
    "an argument of a partial": ("functools.partial(ask, tone=TEMPLATE)", "Summarise", "Summarize"),
    "a method": ("Asker().ask", "self.style + item", "item + self.style"),
    "what a class holds": ("Asker().ask", '"short"', '"long"'),
    "what an object's class does when it is called": ("Asker()", "self.ask(item)", "self.ask(item) + item"),
}
NOT_NOTICED = {
    "options of a decorator": ("ask", "attempts=3", "attempts=5"),
    "a decorator less": ("ask", "@bounded(4)\n", ""),
    "lines and comments": ("ask", "    global calls", "    # more\n\n    global calls"),
    "the docstring": ("ask", "Asks.", "Asks much."),
    "a counter that it keeps": ("ask", "calls = 0", "calls = 7"),
    "another function of the module": ("ask", "def other():\n    pass", "def other():\n    return 1"),
    "what an object holds": ("Asker()", "volatile=0", "volatile=0 "),
}


@pytest.mark.parametrize("name", NOTICED)
def test_is_noticed(name: str, version: Callable[..., str]) -> None:
    function, old, new = NOTICED[name]
    assert version(function) == version(function)
    assert version(function) != version(function, (old, new))


@pytest.mark.parametrize("name", NOT_NOTICED)
def test_is_not_noticed(name: str, version: Callable[..., str]) -> None:
    function, old, new = NOT_NOTICED[name]
    assert version(function) == version(function, (old, new))


def test_what_it_did_before_does_not_matter(tmp_path: Path) -> None:
    names = module(SOURCE, tmp_path)
    before = [function_version(names["ask"]), function_version(names["Asker"]()), function_version(names["messages"])]
    for _ in range(50):
        names["ask"]("z")
    names["MESSAGES"].append("more")
    assert [function_version(names["ask"]), function_version(names["Asker"](3)),
            function_version(names["messages"])] == before
    del sys.modules["asked"]


@pytest.mark.real
def test_it_is_the_same_in_each_process(tmp_path: Path) -> None:
    """Whatever the seed of hashes, and wherever things lie in memory."""
    (tmp_path / "asked.py").write_text(SOURCE)
    code = ("import asked, sys; from llm_guard.mapping.journal.version import function_version as v; junk = [object() "
            "for _ in range(int(sys.argv[1]))]; print(v(asked.ask), v(asked.Asker()), v(asked.closed('a')), "
            "v(lambda item: asked.ask(item)))")
    found = {subprocess.run([sys.executable, "-c", code, seed], capture_output=True, text=True, check=True, timeout=60,
                            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(
                                [str(tmp_path), *sys.path])}).stdout for seed in ("1", "77")}
    assert len(found) == 1


def echo(item: str) -> str:
    return item


def test_decorators_and_options_are_no_part_of_name_and_version() -> None:
    guarded = ramp_up(retry(timeout(5)(echo)))
    for function in (guarded, guarded.with_options(timeout=3), bounded(2)(echo), functools.partial(guarded)):
        assert function_name(function) == "echo"
    assert function_version(guarded) == function_version(echo) == function_version(guarded.with_options(timeout=3))


@pytest.mark.parametrize(("function", "name"), [
    (str.upper, "str.upper"), (len, "len"), (functools.partial(int, base=3), "int"),
    (functools.lru_cache(echo), "echo"), (openai("gpt-4o"), "openai('gpt-4o')")],
    ids=["a method of a built-in", "a built-in", "a partial", "a cached one", "a ready call"])
def test_any_function_has_a_name_and_a_version(function: Any, name: str) -> None:
    assert function_name(function) == name
    assert function_version(function) == function_version(function) != function_version(echo)


def test_a_ready_call_is_known_by_its_model_and_a_cached_function_by_its_code() -> None:
    assert function_version(openai("gpt-4o", key="a")) == function_version(openai("gpt-4o", key="b"))
    assert function_version(openai("gpt-4o")) != function_version(openai("gpt-4o-mini"))
    assert function_version(functools.lru_cache(lambda item: 1)) != function_version(
        functools.lru_cache(lambda item: 2))


def test_functions_that_call_each_other_come_to_an_end() -> None:
    assert function_version(ping) != function_version(pong)


def ping(item: int) -> int:
    return pong(item)


def pong(item: int) -> int:
    return ping(item) + 1
