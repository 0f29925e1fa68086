"""Reads a source of a measure on a worker, bounded in time."""

from __future__ import annotations

from collections.abc import Callable

from llm_guard.state.workers import Job, workers
from llm_guard.telemetry.measure import NoMeasure

#: What a source gives: the measure, or a pair of it and its Unix time, or None where there is none.
Source = Callable[[], float | tuple[float, float] | None]


class SourceReader:
    """One that hangs is not asked again until it comes back. `timeout` in seconds."""

    def __init__(self, source: Source, timeout: float) -> None:
        self._source = source
        self._timeout = timeout
        self._hangs: Job | None = None

    def read(self) -> object:
        """What the source gives; NoMeasure, which quotes nothing of it, where it raises or is late."""
        late = NoMeasure(f"the source does not answer within {self._timeout:g} s")
        if self._hangs is not None:
            raise late
        self._hangs = job = workers().start(self._source)
        if not job.wait(self._timeout) and job.leave(self._came_back):
            raise late
        self._hangs = None
        try:
            return job.result()
        except NoMeasure:
            raise
        except BaseException as error:  # also SystemExit, which is the source's; its text may quote a secret
            raise NoMeasure(f"the source raised {type(error).__name__}") from None

    def _came_back(self) -> None:
        self._hangs = None
