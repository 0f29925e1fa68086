"""Progress as a bar of tqdm, in a terminal and in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

from llm_guard.mapping import progress_words as words
from llm_guard.mapping.progress import Progress
from llm_guard.mapping.progress_logs import Redirection

#: Seconds between two drawings.
EVERY = 0.1
_WITH_TOTAL = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{words}]"
_WITHOUT = "{n_fmt} [{words}]"


class Bar:
    """A bar that tells rate, state, what is in flight, retries, and when it will be over, by the counts of a mapping
    and not by tqdm's own clock. tqdm's monitoring thread is not needed and not started.

    ImportError where there is no tqdm.
    """

    every = EVERY

    def __init__(self) -> None:
        from tqdm.auto import tqdm

        self._tqdm = tqdm
        self._bar: Any = None  # as it is drawn when it is made, that waits for what there is to draw
        self._logs = Redirection(lambda text, stream: _write(tqdm, text, stream))

    def show(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = _made_of(self._tqdm, progress)
        else:
            self._bar.show(progress)

    def close(self) -> None:
        self._logs.end()
        if self._bar is not None:
            self._bar.close()


def _made_of(tqdm: Callable[..., Any], first: Progress) -> Any:
    """A bar of a subclass that shows our words."""

    class Drawn(tqdm):  # type: ignore[misc,valid-type]
        monitor_interval = 0
        total: int | None
        told = _words(first)

        @property
        def format_dict(self) -> dict[str, Any]:
            return {**super().format_dict, "words": self.told}

        def show(self, progress: Progress) -> None:
            self.n = progress.done
            if self.total != progress.total:
                self.total = progress.total
                if hasattr(self, "container") and progress.total:  # a notebook's, whose widget has a total of its own
                    self.reset(progress.total)
                    self.n = progress.done
            self.bar_format = _format(progress)
            self.told = _words(progress)
            self.refresh()

    return Drawn(total=first.total, initial=first.done, bar_format=_format(first), dynamic_ncols=True, leave=True,
                 file=sys.stderr)


def _format(progress: Progress) -> str:
    return _WITHOUT if progress.total is None else _WITH_TOTAL


def _words(progress: Progress) -> str:
    """The important first: what does not fit is cut off."""
    left = "" if progress.over else f"<{words.left(progress.eta) if progress.eta is not None else '?'}"
    told = [words.duration(progress.elapsed) + left]
    if not progress.over:
        told.append(words.rate(progress.rate))
        if progress.standing is not None:
            told.append(words.state(progress.standing))
        told.append(f"{progress.in_flight} in flight")
    if progress.failed:
        told.append(f"{progress.failed} failed")
    if progress.retries:
        told.append(words.plural(progress.retries, "retry", "retries"))
    if progress.recorded:
        told.append(f"{progress.recorded} recorded")
    return ", ".join(told)


def _write(tqdm: Any, text: str, stream: TextIO) -> None:
    tqdm.write(text, file=stream, end="")
