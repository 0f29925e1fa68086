"""A terminal that is played: what stands on its screen after what was written to it."""

from __future__ import annotations

import io
import os
import re

_STEP = re.compile(r"\x1b\[(\??)(\d*)(?:;\d+)*([A-Za-z])|(.)", re.DOTALL)


class Screen(io.StringIO):
    """`width` columns, wrapping as terminals do: at the letter after the last column. It never scrolls."""

    def __init__(self, width: int = 80, height: int = 24, encoding: str = "utf-8") -> None:
        super().__init__()
        self.width, self.height = width, height
        self._encoding = encoding
        self._cells: dict[tuple[int, int], str] = {}
        self.row = self.column = 0
        self.cursor_shown = True
        self.writes = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True

    def size(self, fd: int = 0) -> os.terminal_size:
        """In the place of `os.get_terminal_size`."""
        return os.terminal_size((self.width, self.height))

    def write(self, text: str) -> int:
        text.encode(self._encoding)
        self.writes += bool(text)
        for private, number, command, letter in _STEP.findall(text):
            if letter:
                self._put(letter)
            elif private:
                self.cursor_shown = command == "h"
            elif command == "A":
                self.row = max(0, self.row - int(number or 1))
            elif command == "K":
                self._clear(lambda row, column: row == self.row and column >= min(self.column, self.width - 1))
            elif command == "J":
                self._clear(lambda row, column: (row, column) >= (self.row, self.column))
            else:
                assert command == "m", f"unknown: {command}"
        return len(text)

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row, self.column = self.row + 1, 0
        else:
            if self.column == self.width:
                self.row, self.column = self.row + 1, 0
            self._cells[self.row, self.column] = letter
            self.column += 1

    def _clear(self, which: object) -> None:
        assert callable(which)
        self._cells = {place: letter for place, letter in self._cells.items() if not which(*place)}

    def narrow(self, width: int) -> None:
        """Resizes it; what is too long for a line wraps."""
        old = self.rows()
        self._cells, self.width = {}, width
        self.row = self.column = 0
        for line in old:
            for letter in line:
                self._put(letter)
            self._put("\n")

    def rows(self) -> list[str]:
        """Without trailing spaces."""
        last = max((row for row, _ in self._cells), default=-1)
        return ["".join(self._cells.get((row, column), " ") for column in range(self.width)).rstrip()
                for row in range(last + 1)]
