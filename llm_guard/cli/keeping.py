"""The journal of a run: whose answers it has, and which output is its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from llm_guard.cli.exits import Exit, Problem
from llm_guard.cli.inputs import STREAM
from llm_guard.cli.outputs import is_special
from llm_guard.cli.settings import Settings
from llm_guard.cli.target import Target
from llm_guard.errors import JournalError
from llm_guard.mapping.journal.journal import Journal
from llm_guard.mapping.journal.lock import Lock
from llm_guard.mapping.journal.records import Records
from llm_guard.outcome import Kind

_OPTIONS: Final = ("format", "endpoint", "model", "parameters")


def version(settings: Settings, asked: Target) -> str:
    """What answers depend on beside the prompt: where one of these changes, older answers are of another kind.

    Not the URL: the same model may move to another port.
    """
    found = (asked.format, asked.endpoint, asked.model, settings.parameters_given())
    return json.dumps(dict(zip(_OPTIONS, found, strict=True)), sort_keys=True)


def journal(settings: Settings, asked: Target) -> Journal | None:
    """The journal to keep answers in; None where nobody asked for one. `Problem` for one with other answers, and for
    an output that exists and is not its own."""
    assert settings.out is not None
    path, out = settings.journal_path(), settings.out
    own = version(settings, asked)
    note = None if path is None or out == STREAM else _place_of(out, path)
    there = path is not None and path.exists()
    known = _note_of(path, own) if there and path is not None else None
    if not settings.force and out != STREAM and Path(out).exists() and not is_special(Path(out)):
        if not there:
            raise Problem(f"{out} exists: --force replaces it", Exit.FILES)
        if known != note:
            raise Problem(f"{out} exists, and is not the output of {path}: --force replaces it", Exit.FILES)
    if path is None:
        return None
    return Journal(path, version=own, note=note)


@contextmanager
def as_problems() -> Iterator[None]:
    """Errors of the journal end the command with what they say."""
    try:
        yield
    except JournalError as error:
        raise Problem(str(error), Exit.FILES) from None


def _note_of(path: Path, own: str) -> str | None:
    """The output that a journal belongs to. One that has answers of another kind is refused; one that has none, as
    after a first try with a wrong model, is made anew."""
    with as_problems(), Journal.read(path) as records:
        note = records.note
        is_other = records.version not in ("", own)
        if is_other and records.counts.get(Kind.SUCCESS.value):
            raise _other(path, records, own)
    if is_other:
        with as_problems(), closing(Lock(os.path.realpath(path), 0.0).connection):  # nobody uses it
            for end in ("", "-wal", "-shm"):
                Path(f"{path}{end}").unlink(missing_ok=True)
    return note


def _other(path: Path, records: Records, own: str) -> Problem:
    try:
        before: Any = json.loads(records.version)
        now: Any = json.loads(own)
        other = [f"--{name}" for name in _OPTIONS if before[name] != now[name]]
    except (ValueError, TypeError, KeyError):  # of a script's own function
        return Problem(f"{path} is a journal of something else: give another --journal", Exit.FILES)
    return Problem(f"{path} has answers for another {' and '.join(other)}: give another --out, or another --journal",
                   Exit.FILES)


def _place_of(out: str, journal: Path) -> str:
    """The output as the journal sees it, so that both may move together. Bytes of a name that are not UTF-8 are
    spelled out: the journal takes text alone."""
    place = os.path.relpath(os.path.realpath(out), os.path.dirname(os.path.realpath(journal)))
    return os.fsencode(place).decode("utf-8", "backslashreplace")
