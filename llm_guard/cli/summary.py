"""What became of a run, as a table at its end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from llm_guard.cli.live import can_draw
from llm_guard.cli.panel import by_number, printable
from llm_guard.mapping import progress_words as words
from llm_guard.mapping.progress import Progress
from llm_guard.outcome import FAILURES, REFUSALS, Kind
from llm_guard.state.pace_words import number

if TYPE_CHECKING:
    from rich.table import Table

#: At most so many reasons for failures have a row of their own.
REASONS = 8


def print_summary(progress: Progress, *, title: str = "llm-guard run", places: Sequence[tuple[str, str]] = (),
                  then: str | None = None, file: TextIO | None = None) -> None:
    """Prints the table to `file` (the standard error). `places` are further rows, such as ("output",
    "answers.jsonl"); `then` says beneath how to go on."""
    from rich.console import Console
    from rich.text import Text

    file = file or sys.stderr
    console = Console(file=file, highlight=False)
    ascii_only = not can_draw(getattr(file, "encoding", None))
    console.print(summary(progress, title=title, places=places, ascii_only=ascii_only))
    if then:
        console.print(Text(printable(then, ascii_only=ascii_only)), soft_wrap=True)


def summary(progress: Progress, *, title: str, places: Sequence[tuple[str, str]] = (),
            ascii_only: bool = False) -> Table:
    """Two columns: what, and how much."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=printable(title, ascii_only=ascii_only), title_justify="left", title_style="bold",
                  show_header=False, box=box.ASCII if ascii_only else box.ROUNDED, border_style="dim")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, said in [*rows(progress), *places]:
        table.add_row(name, Text(printable(said, ascii_only=ascii_only)))
    return table


def rows(progress: Progress) -> list[tuple[str, str]]:
    """The figures, each with its name."""
    found = [("items", str(progress.done) if progress.total is None else f"{progress.done} of {progress.total}"),
             ("answered", _answered(progress))]
    reasons = sorted(progress.failures.items(), key=lambda pair: (-pair[1], pair[0]))
    found += [("failed" if not place else "", f"{count} {reason}") for place, (reason, count) in
              enumerate(reasons[:REASONS])]
    if len(reasons) > REASONS:
        found.append(("", f"{sum(count for _, count in reasons[REASONS:])} for {len(reasons) - REASONS} more reasons"))
    found.append(("calls", _calls(progress)))
    if progress.retries:
        found.append(("retries", str(progress.retries)))
    for name, kinds in (("refused", REFUSALS), ("went wrong", FAILURES | {Kind.QUOTA, Kind.INVALID, Kind.IGNORED})):
        said = [f"{count} {kind.value.replace('_', ' ')}" for kind, count in by_number(progress) if kind in kinds]
        if said:
            found.append((name, ", ".join(said)))
    called = progress.done - progress.recorded
    mean = f", {words.rate(called / progress.elapsed)} on average" if progress.elapsed > 0 and called else ""
    found.append(("time", words.duration(progress.elapsed) + mean))
    if progress.latency is not None:
        seconds = progress.latency
        found.append(("latency", f"{_seconds(seconds.p50)} median, {_seconds(seconds.p90)} at 90%, "
                                 f"{_seconds(seconds.p99)} at 99%"))
    return found


def _answered(progress: Progress) -> str:
    share = f" ({words.percent(progress.succeeded / progress.done)})" if progress.done else ""
    journal = f", {progress.recorded} of them from the journal" if progress.recorded else ""
    return f"{progress.succeeded}{share}{journal}"


def _calls(progress: Progress) -> str:
    answers = progress.outcomes.get(Kind.SUCCESS, 0)
    each = f", {progress.attempts / answers:.2f} per answer" if answers else ""
    return f"{progress.attempts}{each}"


def _seconds(value: float) -> str:
    return f"{number(1000 * value)} ms" if value < 1 else f"{number(value)} s"
