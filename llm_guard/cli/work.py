"""The run itself: prompts through the guarded call, with the journal, into the output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_guard.cli.answers import error_of, output_row
from llm_guard.cli.asking import Asked, InputGivenUp, UnderWay, guarded, key, usable
from llm_guard.cli.exits import Exit, Problem
from llm_guard.cli.inputs import Source
from llm_guard.cli.items import Items, empty
from llm_guard.cli.keeping import as_problems
from llm_guard.cli.outputs import Output
from llm_guard.cli.reach import reach
from llm_guard.cli.screen import Screen
from llm_guard.cli.settings import Settings
from llm_guard.cli.stopping import AllInvalid, Interrupts, all_invalid
from llm_guard.cli.target import Target
from llm_guard.errors import Cancelled, JournalBusy, Stopped
from llm_guard.mapping import iterator
from llm_guard.mapping.journal.files import Vanished
from llm_guard.mapping.journal.journal import Journal
from llm_guard.mapping.mapping import map_with_backpressure
from llm_guard.mapping.result import Result
from llm_guard.mapping.stopping import StopAfter, stop_after
from llm_guard.outcome import Kind

Answers = iterator.Mapping[Asked, dict[str, Any], Result[Asked, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run came to its end; `why` it did so early, or empty."""

    code: Exit
    why: str = ""


class Work:
    """One run. `count` is how many items there are, where that is known; `journal` where answers are kept, or None."""

    def __init__(self, settings: Settings, source: Source, asked: Target, items: Items, count: int | None,
                 journal: Journal | None, screen: Screen) -> None:
        self._settings, self._source, self._asked, self._items = settings, source, asked, items
        self._count, self._journal, self._screen = count, journal, screen
        self._call = guarded(settings, asked)
        self._ask = usable(self._call)
        self._failed = self._answered = 0
        self._next = 0  # the index after the last that was written
        self._invalid: Mapping[str, Any] = {}  # the last error of a request that was refused as wrong

    def go(self) -> Ended:
        """Asks all; `Problem` where the input, the journal or the output fails."""
        settings = self._settings
        with self._source.rows() as rows:
            under = UnderWay(self._items.of(rows))
            with as_problems(), self._mapping(under) as answers:
                refused = AllInvalid(answers.stop)
                drop = self._call.on_event(refused)
                output = Output(settings.out or "", settings.writer(),
                                None if self._journal is None else self._journal.path)
                try:
                    with Interrupts(answers.stop, answers.abandon, under, self._screen.say) as interrupts:
                        reach(self._asked.call.request("").url, settings.server_wait, self._screen.say,
                              lambda: interrupts.code is not None)
                        why = self._write(answers, under, output)
                        ended = self._ended(under, interrupts, refused, why)
                        answers.close()  # which lets go of the journal
                        if ended.why and self._journal is not None and self._source.can_be_read_again:
                            self._write_rest(output)
                        output.commit()
                except KeyboardInterrupt:  # a third one
                    raise self._unwritten(output, "interrupted", interrupts.code or Exit.INTERRUPTED) from None
                except JournalBusy:  # what was cut off three times still holds it
                    raise self._unwritten(output, ended.why, ended.code) from None
                except Vanished as error:
                    raise Problem(f"{error}. What was answered until then is in {output.keep()}", Exit.FILES) from None
                finally:
                    drop()
                    output.close()
        return ended

    def _mapping(self, under: UnderWay) -> Answers:
        settings = self._settings
        rule: StopAfter | None = None
        if settings.failures is not None or settings.failure_rate is not None:
            rule = stop_after(settings.failures, settings.failure_rate)
        return map_with_backpressure(
            self._ask, under.asked(), workers=settings.workers, on_error="return", results=True, stop_after=rule,
            progress=self._screen, total=self._count, journal=self._journal, key=key if self._journal else None)

    def _write(self, answers: Answers, under: UnderWay, output: Output) -> str:
        """Writes what comes; returns why it ended early, where the mapping knows."""
        try:
            for result in answers:
                error = None if result.error is None else error_of(result.error)
                if error is not None and error["outcome"] == Kind.INVALID.value:
                    self._invalid = error
                output.write(output_row(under.of(result.index), result.value, error, self._with_id))
                self._next = result.index + 1
                self._failed += error is not None
                self._answered += error is None
        except Stopped as stopped:
            return str(stopped)
        except (Cancelled, KeyboardInterrupt):
            return "interrupted again: what was in flight is cut off"
        except InputGivenUp:  # it came just as the input had been read
            pass
        return ""

    def _ended(self, under: UnderWay, interrupts: Interrupts, refused: AllInvalid, why: str) -> Ended:
        if under.is_over and not why and not refused.stopped:
            if not self._next:
                raise empty(self._source)
            return Ended(Exit.FAILED_ITEMS if self._failed else Exit.ANSWERED)
        if interrupts.code is not None:
            return Ended(interrupts.code, why or interrupts.code.name.lower())
        if refused.stopped:
            return Ended(Exit.STOPPED, all_invalid(self._invalid))
        return Ended(Exit.STOPPED, why or "stopped")

    def _unwritten(self, output: Output, why: str, code: Exit) -> Problem:
        rest = "" if self._journal is None else f"; {output.name} is as it was before: the same command makes it anew"
        return Problem(f"{why}{rest}", code)

    def _write_rest(self, output: Output) -> None:
        """What an earlier run answered beyond the place at which this one ended. The input is read no further than to
        the last of it: whoever interrupts does not want to wait for the rest of a long file."""
        assert self._journal is not None
        with Journal.read(self._journal.path) as records:
            left = records.counts.get(Kind.SUCCESS.value, 0) - self._answered
        if left <= 0:
            return
        kept = self._journal.open(self._ask, key)
        try:
            with self._source.rows() as rows:
                under = UnderWay(self._items.of(rows))
                for index, asked in enumerate(under.asked()):
                    found = kept.look(index, asked)
                    item = under.of(index)
                    if index >= self._next and found is not None:
                        output.write(output_row(item, found.value, None, self._with_id))
                        left -= 1
                        if not left:
                            break
        finally:
            kept.close("closed")

    @property
    def _with_id(self) -> bool:
        return self._settings.id_field is not None
