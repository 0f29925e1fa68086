"""Where the output goes: a file that appears whole or not at all, or a stream."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from llm_guard.cli.answers import Writer
from llm_guard.cli.exits import Exit, Problem, reason
from llm_guard.cli.inputs import STREAM

#: What a file is called while it is written.
PART: Final = ".part"


class Output:
    """Rows on their way out. A file is written beside its place and put there by `commit`, so that a crash leaves what
    was there before; a stream, a device or a pipe has each row at once.

    `Problem` where it cannot be written, which says where answers are kept, if they are: in `journal`.
    """

    def __init__(self, path: str, writer: Callable[[TextIO], Writer], journal: str | None = None) -> None:
        self._kept = "" if journal is None else f". What was answered is in {journal}: the same command goes on from it"
        self.name = "standard output" if path == STREAM else path
        self._place: Path | None = None
        self._part: Path | None = None
        try:
            if path == STREAM:
                where: Any = os.dup(sys.stdout.fileno())
            elif is_special(Path(path)):
                where = path
            else:
                self._place = Path(os.path.realpath(path))  # a link stays one
                self._part = where = self._place.with_name(self._place.name + PART)
            self._stream = open(where, "w", encoding="utf-8", newline="")  # noqa: SIM115 - until `close`
        except OSError as error:
            raise self._failed(error) from None
        self._writer = self._guarded(lambda: writer(self._stream))
        self._guarded(self._flush_stream)

    def write(self, row: Mapping[str, Any]) -> None:
        """One row more."""
        def write() -> None:
            self._writer.write(row)
            self._flush_stream()

        self._guarded(write)

    def commit(self) -> None:
        """All rows are there: the file takes its place."""
        def commit() -> None:
            self._stream.flush()
            if self._place is not None and self._part is not None:
                os.fsync(self._stream.fileno())
                self._stream.close()
                os.replace(self._part, self._place)
                self._part = None

        self._guarded(commit)

    def keep(self) -> str:
        """What was written is nowhere else: it stays beside its place. Returns where it is."""
        where = self.name if self._part is None else f"{self._part}"
        self._guarded(self._stream.close)
        self._part = None
        return where

    def close(self) -> None:
        """Lets go; of a file that was not committed nothing stays."""
        try:
            self._stream.close()
        except OSError:
            pass  # what is left in its buffer: that it cannot be written was said before
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def _flush_stream(self) -> None:
        if self._part is None:
            self._stream.flush()

    def _guarded(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> Problem:
        if isinstance(error, BrokenPipeError):
            return Problem(f"standard output was closed by its reader{self._kept}", Exit.FILES)
        return Problem(f"{self.name if self._part is None else self._part} cannot be written: {reason(error)}"
                       f"{self._kept}", Exit.FILES)


def is_special(path: Path) -> bool:
    """A device or a pipe: something is there that is no file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
