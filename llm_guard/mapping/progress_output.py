"""What `progress=` of a mapping stands for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llm_guard import checks
from llm_guard.errors import ConfigError

if TYPE_CHECKING:
    from llm_guard.mapping.progress import Progress
    from llm_guard.mapping.progress_watch import Output, Watch

#: Seconds between two calls of a function that is told the progress.
EVERY = 0.1

Show = bool | Callable[["Progress"], object]


class _Told:
    """A function of the user's."""

    every = EVERY

    def __init__(self, function: Callable[[Progress], object]) -> None:
        self._function = function

    def show(self, progress: Progress) -> None:
        self._function(progress)

    def close(self) -> None:
        pass


def check(progress: object, total: object) -> None:
    """Refuses what cannot be shown."""
    if not isinstance(progress, bool):
        if not callable(progress):
            raise ConfigError("progress", progress, "True, False or a function")
        checks.function("progress", progress)
    if total is not None:
        checks.whole("total", total, least=0)


def watch(progress: Show, function: Callable[..., Any], total: int | None) -> Watch | None:
    """The observer that shows it; None where nobody wants to see it."""
    if progress is False:
        return None
    from llm_guard.mapping.progress_watch import Watch

    if progress is not True:
        return Watch(function, _Told(progress), total)
    from llm_guard.mapping.progress_lines import Lines

    return Watch(function, _bar() or Lines(getattr(function, "__qualname__", type(function).__qualname__)), total)


def _bar() -> Output | None:
    """None: there is no place for one, or no tqdm."""
    if not (_is_terminal() or _is_notebook()):
        return None
    try:
        from llm_guard.mapping.progress_bar import Bar

        return Bar()
    except ImportError:
        return None


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except Exception:  # None, closed, or something in its place
        return False


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", ())
