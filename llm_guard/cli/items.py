"""What is asked for each row of the input, and the check of all rows before the first is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from llm_guard.cli.exits import Exit, Problem
from llm_guard.cli.inputs import Row, Source
from llm_guard.cli.prompts import Maker, Unusable, needed
from llm_guard.llm.ready import Prompt

_MOST_PROBLEMS: Final = 5  # that a message tells of


@dataclass(slots=True)  # frozen ones take four times as long to make
class Item:
    """One item to ask: `id` and `kept` go to the output as they are; where there is a `problem` nothing is asked."""

    index: int
    line: int
    id: Any
    prompt: Prompt
    kept: dict[str, Any]
    problem: str = ""


class Items(NamedTuple):
    """Makes items of rows. `check` refuses (TypeError) a prompt that the endpoint does not take."""

    maker: Maker
    check: Callable[[Prompt], object]
    id_field: str | None = None
    keep: tuple[str, ...] = ()

    def of(self, rows: Iterable[Row]) -> Iterator[Item]:
        """One for each row, in order."""
        return map(self._item, rows)

    def _item(self, row: Row) -> Item:
        index, line, fields = row.index, row.line, row.fields
        if row.problem:
            return Item(index, line, None, "", {}, row.problem)
        try:
            found = None if self.id_field is None else needed(fields, self.id_field)
            kept = {name: needed(fields, name) for name in self.keep}
            prompt = self.maker(fields)
            if not isinstance(prompt, str):
                self.check(prompt)
        except (Unusable, TypeError) as error:
            return Item(index, line, None, "", {}, str(error))
        return Item(index, line, found, prompt, kept)


def checked(source: Source, items: Items, keep_going: bool) -> int:
    """How many items a file has; `Problem` where there is none, or where lines cannot be used and are not to be kept.

    The whole file is read: a mistake in its last line is found before the first call is paid for.
    """
    count, bad = 0, 0
    found: dict[str, list[int]] = {}  # what is wrong, the first line of it, and how many there are
    with source.rows() as rows:
        for item in items.of(rows):
            count += 1
            if item.problem:
                bad += 1
                if item.problem in found:
                    found[item.problem][1] += 1
                elif len(found) < _MOST_PROBLEMS:
                    found[item.problem] = [item.line, 1]
    if not count:
        raise empty(source)
    if bad and not keep_going:
        told = [f"  line {line}{f' and {more - 1:,} more' if more > 1 else ''}: {problem}"
                for problem, (line, more) in found.items()]
        left = bad - sum(more for _, more in found.values())
        told += [f"  and {left:,} lines more"] if left else []
        lines = "1 line that cannot" if bad == 1 else f"{bad:,} lines that cannot"
        raise Problem("\n".join([f"{source.name} has {lines} be used; nothing was sent.", *told,
                                 "With --keep-going they become rows with an error, and all others are asked."]),
                      Exit.INPUT)
    return count


def empty(source: Source) -> Problem:
    """For an input without items."""
    rest = "has a header, if that, and no row" if source.format in ("csv", "tsv") else "is empty"
    return Problem(f"{source.name} {rest}: there is nothing to ask", Exit.INPUT)
