"""What a function is known by: its name, and a digest of what it does, the same in each process that runs the source.

The digest takes in the compiled code, its constants and defaults, and, of what it refers to in its module and its
closure, the plain values (a prompt's template) and the functions and classes of the same module, in the same way. A
list, a dict or a set of that module counts as its source has it, for a cache fills while it is used. Not taken in: what
the decorators of this library do, the code of other modules, what objects hold.
"""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import sys
from collections.abc import Iterator
from hashlib import blake2b
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from llm_guard.runtime.guarded import Guarded

_PLAIN: Final = (str, bytes, int, float, complex, bool, type(None), type(...))


def unguarded(function: Any) -> Any:
    """The function beneath the decorators of this library."""
    while True:
        if isinstance(function, Guarded):
            function = function.__wrapped__
        elif getattr(function, "__qualname__", "") == "Guarded.with_options.<locals>.call":
            function = inspect.getclosurevars(function).nonlocals["self"]
        else:
            return function


def function_name(function: object) -> str:
    """Its qualified name."""
    function = unguarded(function)
    while isinstance(function, functools.partial):
        function = unguarded(function.func)
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def function_version(function: object) -> str:
    """16 hexadecimal digits that change when what it does changes."""
    reader = _Reader(_module(function))
    reader.read(function)
    return reader.hash.hexdigest()


def _module(function: Any) -> object:
    function = unguarded(function)
    while isinstance(function, functools.partial):
        function = unguarded(function.func)
    return getattr(function, "__module__", None)


class _Reader:
    """Reads a function and what it refers to into one hash; each object once."""

    def __init__(self, module: object) -> None:
        self.hash = blake2b(digest_size=8)
        self._module = module
        self._seen: dict[int, object] = {}  # kept alive, so that no id is given twice

    def _say(self, *words: object) -> None:
        for word in words:
            said = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
            self.hash.update(b"%d:" % len(said) + said)

    def read(self, value: Any) -> None:
        value = unguarded(value)
        if isinstance(value, _PLAIN):
            self._say(type(value).__name__, value)
        elif isinstance(value, tuple):
            self._say("tuple", len(value))
            for part in value:
                self.read(part)
        elif isinstance(value, frozenset):
            self._say("frozenset", *sorted(repr(part) for part in value if isinstance(part, _PLAIN)))
        elif id(value) in self._seen:
            self._say("again")
        else:
            self._seen[id(value)] = value
            self._read_object(value)

    def _read_object(self, value: Any) -> None:
        if isinstance(value, CodeType):
            self._read_code(value, None)
        elif isinstance(value, FunctionType):
            self._read_function(value)
        elif isinstance(value, MethodType):
            self.read(value.__func__)
            self.read(type(value.__self__))
        elif isinstance(value, functools.partial):
            self._say("partial")
            for part in (value.func, value.args, tuple(sorted(value.keywords.items()))):
                self.read(part)
        elif isinstance(value, staticmethod | classmethod):
            self.read(value.__func__)
        elif isinstance(value, property):
            self.read(value.fget)
        elif isinstance(value, type):
            self._read_class(value)
        elif isinstance(value, ModuleType | BuiltinFunctionType):
            self._say(value.__name__)
        else:  # what it holds may change from run to run; a ready call's name tells its model
            known = getattr(value, "__dict__", {})
            self._say(known.get("__qualname__", ""))
            self.read(type(value))
            self.read(known.get("__wrapped__"))

    def _read_function(self, function: FunctionType) -> None:
        self._say(function.__qualname__)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, held in ((name, _held(cell)) for name, cell in cells):
            self._say(name)
            self.read(held)
        if function.__module__ != self._module:
            return
        self._read_code(function.__code__, function.__doc__)
        self.read(function.__defaults__)
        self.read(tuple(sorted((function.__kwdefaults__ or {}).items())))
        for name in sorted(set(_names(function.__code__))):
            if name in function.__globals__:
                self._say(name)
                self._read_global(function, name)

    def _read_global(self, function: FunctionType, name: str) -> None:
        value = function.__globals__[name]
        if isinstance(value, list | dict | set):
            self._say(_assigned(function.__module__, name))
        else:
            self.read(value)

    def _read_code(self, code: CodeType, docstring: str | None) -> None:
        self._say(code.co_name, code.co_code, code.co_argcount, code.co_kwonlyargcount, *code.co_names)
        for place, constant in enumerate(code.co_consts):
            if place or docstring is None or constant != docstring:
                self.read(constant)

    def _read_class(self, cls: type) -> None:
        self._say(cls.__qualname__)
        if cls.__module__ != self._module:
            return
        for base in cls.__bases__:
            self.read(base)
        for name, member in sorted(vars(cls).items()):
            is_code = isinstance(member, FunctionType | Guarded | staticmethod | classmethod | property)
            if is_code or (isinstance(member, (*_PLAIN, tuple, frozenset)) and not name.startswith("__")):
                self._say(name)
                self.read(member)


def _held(cell: CellType) -> object:
    try:
        held = cell.cell_contents
    except ValueError:  # nothing yet
        return None
    return type(held) if isinstance(held, list | dict | set) else held


def _names(code: CodeType) -> Iterator[str]:
    """The names of its module that it, or a function within it, uses; but for those that it sets itself."""
    steps = [(step.opname, str(step.argval)) for step in dis.get_instructions(code)]
    changed = {name for operation, name in steps if operation in ("STORE_GLOBAL", "DELETE_GLOBAL")}
    yield from (name for operation, name in steps if operation == "LOAD_GLOBAL" and name not in changed)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _assignments(module: str) -> dict[str, str]:
    """The source of what each name of a module is set to, where the source is there."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, str] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(
            node, ast.AnnAssign | ast.AugAssign) else []
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.expr):
                found[target.id] = found.get(target.id, "") + ast.unparse(value)
    return found


def _assigned(module: str, name: str) -> str:
    return _assignments(module).get(name, "")
