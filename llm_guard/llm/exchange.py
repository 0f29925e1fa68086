"""One request and its answer on one connection, which the call in progress may cut from outside.

A connection is shut down through a duplicate of its file descriptor: that one outlives the wrapping in TLS, which
detaches the plain socket, and shuts nothing down but this very connection. It is held from before `connect` until the
body is read or closed, and no longer: a connection that is back in its pool belongs to whoever takes it next.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import NamedTuple

from llm_guard import call, clock
from llm_guard.call import FOREVER, Call
from llm_guard.errors import CallTimeout, Cancelled
from llm_guard.state.alarm import Timer, alarm

#: A wait that was bounded by the deadline may end so much before it, in seconds.
SLACK = 0.001
#: The connection is reset when it is closed: what was not sent is of no use, and the server need not read to see it.
_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Errors(NamedTuple):
    """What a request raises when its call runs out of time, or is given up, as errors of an HTTP library too."""

    timeout: type[CallTimeout]
    cancelled: type[Cancelled]


def bounding() -> Call | None:
    """The call in progress, where it may end before a request does."""
    found = call.in_progress()
    if found is None or not found.active or (found.cut_off is None and found.deadline == FOREVER):
        return None
    return found


def error_of(bound: Call | None, began: float, errors: Errors) -> CallTimeout | Cancelled | None:
    """What a request that began at that instant must raise, where its call is over or given up; else None."""
    if bound is None or not bound.active:
        return None
    if _ran_out(bound):
        seconds = max(0.0, bound.deadline - began)
        return errors.timeout(f"the call's deadline came {seconds:.3g} s after the request began", seconds=seconds)
    if bound.cut_off is not None and bound.cut_off.is_cut:
        return errors.cancelled("the call was given up while it made a request")
    return None


def _ran_out(bound: Call) -> bool:
    return clock.current().now() >= bound.deadline - SLACK


def forget(error: BaseException) -> None:
    """Lets go of the frames that an error passed, and those before it: nobody will see it.

    Libraries keep errors in their frames, and so the frames, and with them their pools, until the collector runs.
    """
    several = [error]
    while several:
        one = several.pop()
        if one.__traceback__ is not None:
            one.__traceback__ = None
            several += [before for before in (one.__cause__, one.__context__) if before is not None]


class Exchange:
    """It is cut at the deadline of the call in progress, and when that call is cut off.

    Whoever is blocked on it ends at once, in whatever way; so `is_cut` is asked after each operation: a body without a
    length that is cut looks whole. A call that has ended cuts nothing any more.

    `line` is the socket that the body is read from, and `timeout` the longest wait for a part of it, in seconds, as it
    was asked for; both are None until they are known.
    """

    __slots__ = ("_began", "_call", "_descriptor", "_ended", "_lock", "_process", "_timer", "is_cut", "line", "timeout")

    def __init__(self) -> None:
        self.is_cut = False
        self.line: socket.socket | None = None
        self.timeout: float | None = None
        self._began = clock.current().now()
        self._lock = threading.RLock()  # a finaliser may end it while this very thread is in here
        self._descriptor = -1
        self._ended = False
        self._process = os.getpid()
        self._call: Call | None = None
        self._timer: Timer | None = None
        self.join()

    def join(self) -> None:
        """Registers with the call in progress; each operation does so first, for it may belong to another one."""
        found = bounding()
        if found is self._call and found is not None:
            if self._timer is None:
                self._set_timer(found)
            return
        if found is None or self._ended:
            if self._call is not None and not self._call.active:
                self._unwatch()
            return
        self._unwatch()
        self._call = found
        self._set_timer(found)
        if found.cut_off is not None:
            found.cut_off.watch(self._cut)

    def _set_timer(self, bound: Call) -> None:
        with self._lock:
            if bound.deadline < (FOREVER if bound.cut_off is None else bound.cut_off.at):
                self._timer = alarm().at(bound.deadline, self._deadline_came)  # else its caller cuts it off in time

    def _deadline_came(self) -> None:
        """In the alarm's thread. It may have moved on, as that of a stream does while its consumer is busy."""
        bound, self._timer = self._call, None
        if bound is None or not bound.active or _ran_out(bound):
            self._cut()
        else:
            self._set_timer(bound)

    def hold(self, descriptor: int) -> None:
        """From now on the connection behind this descriptor is the one that is cut."""
        duplicate = socket.dup(descriptor)
        with self._lock:
            before, self._descriptor = self._descriptor, duplicate
            if self.is_cut:
                _shut_down(duplicate)
        if before >= 0:
            socket.close(before)

    def end(self, *, whole: bool = False) -> bool:
        """Lets go of the connection, which is not cut from now on. Returns whether it was, or is now.

        `whole`: its answer was received. Else it is cut where its call is over: a wait that was bounded by the deadline
        may have ended a moment before the alarm.
        """
        if not whole and self._call is not None and _ran_out(self._call):
            self._cut()
        with self._lock:
            self._ended = True
            descriptor, self._descriptor = self._descriptor, -1
        self._unwatch()
        self.line = None
        if descriptor >= 0:
            socket.close(descriptor)
        return self.is_cut

    def left(self) -> float:
        """Seconds until the call's deadline."""
        if self._call is None or not self._call.active:
            return FOREVER
        return max(0.0, self._call.deadline - clock.current().now())

    def set_timeout(self) -> None:
        """Bounds the next wait on its line: as was asked for, but by what is left of the call in progress now."""
        if self.line is not None:
            self.line.settimeout(at_most(self.timeout, self.left()))

    def error(self, errors: Errors) -> CallTimeout | Cancelled | None:
        """What an operation on it must raise; None where it is not cut and its call is not over."""
        found = error_of(self._call, self._began, errors)
        if found is None and self.is_cut:  # for a call that has ended since
            return errors.cancelled("the connection was cut when a call was given up")
        return found

    def _unwatch(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._call is not None and self._call.cut_off is not None:
            self._call.cut_off.unwatch(self._cut)

    def _cut(self) -> None:
        bound = self._call
        # A child process has the same connection, which is its parent's.
        if bound is None or not bound.active or self._process != os.getpid():
            return
        with self._lock:
            if not self._ended:
                self.is_cut = True
                if self._descriptor >= 0:
                    _shut_down(self._descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_timer"):  # it was made whole
            self.end()


def _shut_down(descriptor: int) -> None:
    line = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)  # the family does not matter for this
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        line.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is not connected, or no longer
        pass
    finally:
        line.detach()


def at_most(timeout: float | None, left: float) -> float | None:
    """The shorter of the two, where None and infinity mean no bound; never 0, which would mean not to wait at all."""
    if left == FOREVER:
        return timeout
    return max(SLACK, left if timeout is None else min(timeout, left))
