"""The runner of a streaming function: the call is over when its first item is there, and goes on as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_guard.call import FOREVER, Call, CutOff
from llm_guard.outcome import SUCCESS, Kind, Outcome
from llm_guard.runtime import reading
from llm_guard.runtime.attempt import Abandonment, Permits, close_quietly
from llm_guard.runtime.items import Items, Refused
from llm_guard.runtime.options import Options
from llm_guard.runtime.plan import Timed
from llm_guard.runtime.runner import NO_VERDICT, Run
from llm_guard.runtime.stream_source import InThisThread, Source
from llm_guard.runtime.stream_worker import OnWorker
from llm_guard.runtime.streams import Stream
from llm_guard.state.gate import Ending
from llm_guard.state.stream_time import Bounds, StreamTime


class StreamRun(Run):
    """One guarded call of a streaming function.

    Until the first item is there all is as in any call; then the stream is returned, and with it goes what is held for
    the attempt and for the call. The stream tells of its end in here: `read`, `ending`, `end`.
    """

    __slots__ = ("_began", "_by_attempt", "_by_call", "_fixed", "_goes_on", "_last", "_permits", "_with_stream")

    def _bound_in_time(self, deadline: float, options: Options, came: float | None) -> None:
        now = self._began = self._time.now()
        self._permits: Permits | None = None
        self._goes_on = False  # the call, as a stream: somebody is to be told of its end
        by_call, by_attempt, cooperative = options.bounds(self._plan)
        self._by_call = _tightest(by_call, self._plan.call_timeouts)
        self._by_attempt = _tightest(by_attempt, self._plan.attempt_timeouts)
        self._fixed = min(deadline, now + min(cooperative, default=FOREVER))
        # The rest is for the way to the first item.
        self._deadline = min(self._fixed, now + self._by_call.total, now + self._by_call.first_item)
        self._attempt_limit = min(self._by_attempt.total, self._by_attempt.first_item)
        most = min(self._by_call.total, self._by_call.first_item, self._attempt_limit)
        self._timeout = None if most == FOREVER else most

    def _make(self, permits: Permits, before: Any) -> tuple[Any, BaseException | None, Ending]:
        started = self._time.now()
        self._permits = permits
        self._with_stream: Permits | None = None
        self._last = NO_VERDICT
        stream: Stream[Any] | None = None
        try:
            close_quietly(before)
            if self._telling is not None:
                self._telling.attempt_started(started, self._attempts, started - self._came)
            time = StreamTime(self._began, started, self._by_call, self._by_attempt)
            stream = self._stream(time, permits)
        finally:
            if stream is None:  # interrupted
                self.end(NO_VERDICT)
        try:
            if stream.begin():
                self._last = Ending(SUCCESS, time.took, self._timeout, first_item=time.first_item)
                self._with_stream, self._call_permits = self._call_permits, None
                if self._telling is not None:
                    self._telling.first_item(self._time.now(), self._attempts, time.first_item)
        except Refused as refused:
            return refused.value, None, self._last
        except Exception as error:
            return None, error, self._last
        return stream, None, self._last

    def _stream(self, time: StreamTime, permits: Permits) -> Stream[Any]:
        items = Items(self._bare(), lambda value: reading.of_value(value, self._plan.classify))
        cut_off = self._cut_off
        source: Source
        if self._by_call == self._by_attempt == Bounds():
            mine = Call(self._fixed, cut_off, self._held, self._owner)
            source = InThisThread(items, mine)
        else:
            cut_off = CutOff(cut_off)
            mine = Call(self._fixed, cut_off, self._held, self._owner)
            abandonment = Abandonment(cut_off, self._held_for(permits), self._plan.timeouts)
            source = OnWorker(items, mine, abandonment, self._time)
        return Stream(items, source, mine, self, time, self._time.now, self._fixed, self._plan.policies)

    # What the stream tells of its end.

    def read(self, error: BaseException) -> Outcome:
        return error.outcome if isinstance(error, Refused) else reading.of_error(error, self._plan.classify)

    def read_end(self, returned: object, heard: object) -> Outcome:
        outcome = reading.of_value(returned, None, heard, count=self._counts())
        return outcome if outcome.kind is Kind.SUCCESS else SUCCESS  # its items were the answer

    def ending(self, outcome: Outcome, error: BaseException | None, time: StreamTime) -> Ending:
        late = outcome.kind is Kind.TIMEOUT and time.first_item is not None
        return Ending(outcome, time.took, None if late else self._timeout, None if error is None else type(error),
                      self._plan.is_paced, time.first_item)

    def end(self, ending: Ending) -> None:
        permits = self._permits
        if permits is None:  # an interrupted call both ended and dropped it
            return
        self._last = ending
        self._ended = self._time.now()
        ran_for = self._ran_for + ending.seconds
        try:
            permits.end(ending)
        finally:
            if self._with_stream is not None:
                self._with_stream.end(ending.lasting(ran_for))
        self._permits = None  # only now: until then it may be ended again
        self._ran_for = ran_for
        self._tell_end(ending, self._ended)
        if self._goes_on:
            self._tell_call(ending)

    def end_later(self, ending: Ending) -> None:
        permits = self._permits
        if permits is None:
            return
        permits.end_later(ending, lambda: self._tell_late(ending))
        if self._with_stream is not None:
            self._with_stream.end_later(ending.lasting(self._ran_for + ending.seconds))
        self._permits = None

    def _tell_late(self, ending: Ending) -> None:
        self._ended = self._time.now()
        self._tell_end(ending, self._ended)
        if self._goes_on:
            self._tell_call(ending)

    def _tell_call(self, ending: Ending) -> None:
        if self._permits is None:
            super()._tell_call(ending)
        else:
            self._goes_on = True


def _tightest(totals: Sequence[float], timeouts: Sequence[Timed]) -> Bounds:
    return Bounds(min(totals, default=FOREVER), min((timed.bounds.first_item for timed in timeouts), default=FOREVER),
                  min((timed.bounds.idle for timed in timeouts), default=FOREVER))
