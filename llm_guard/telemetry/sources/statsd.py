"""StatsD timings as a measure: a listener, to which applications send what they send to StatsD.

The protocol has no way to ask a daemon what it has heard. So this listens as a daemon does, to any client's timings or
to a daemon's repeater; where a daemon writes to Graphite, `graphite` reads it there.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from types import TracebackType
from typing import Self
from weakref import finalize

from llm_guard import checks, clock
from llm_guard.errors import ConfigError
from llm_guard.fork import renew_after_fork
from llm_guard.telemetry.measure import NoMeasure
from llm_guard.telemetry.sources.timings import Timings

#: Bytes of the longest datagram, and of those that may wait while the listener is busy.
LONGEST, BUFFER = 65_536, 1 << 20
#: Seconds after which the listener looks whether it was closed, though nothing came; and that `close` waits for that.
LOOKS_EVERY, CLOSES_WITHIN = 1.0, 2.0
#: Seconds that it rests after an error of its socket: one that lasts shall not keep it busy.
RESTS = 0.1


class _Ear:
    """The socket, and the thread that hears. It knows nothing of who asks for the mean, who may so be dropped."""

    def __init__(self, host: str, port: int, name: str, window: float) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            self._socket.bind((host, port))
            self._socket.settimeout(LOOKS_EVERY)
        except BaseException:
            self._socket.close()
            raise
        self.address = self._socket.getsockname()
        self._made_with = name, window
        self.start()

    def start(self) -> None:
        self.timings = Timings(*self._made_with)
        self._closed = False
        self._gone = clock.current().waiter()
        clock.current().spawn(self._loop, "llm_guard statsd")

    def close(self) -> None:
        """It may be called by a finaliser: it waits for nobody."""
        self._closed = True
        with suppress(OSError), socket.socket(self._socket.family, socket.SOCK_DGRAM) as bell:
            bell.sendto(b"", self.address)  # wakes the thread, where no other process has the port too

    def wait_closed(self) -> None:
        self._gone.wait(CLOSES_WITHIN)

    def _loop(self) -> None:
        time = clock.current()
        while not self._closed:
            try:
                self.timings.hear(time.now(), self._socket.recv(LONGEST))
            except TimeoutError:
                pass
            except OSError:  # of some sender's, most likely: the socket lives
                time.sleep(RESTS)
        self._socket.close()
        self._gone.set()


class Statsd:
    """See `statsd`. `port` is where it listens; `close()`, or the end of a `with` block, ends that."""

    timeout = 1.0

    def __init__(self, name: str, host: str, port: int, window: float) -> None:
        self.window = window
        try:
            self._ear = _Ear(host, port, name, window)
        except (OSError, OverflowError) as error:
            raise ConfigError("port", port, f"one that is free on this machine's {host} ({error})") from error
        self.port: int = self._ear.address[1]
        self._close = finalize(self, self._ear.close)
        self._close.atexit = False
        renew_after_fork(self)

    def after_fork(self) -> None:
        if self._close.alive:
            self._ear.start()

    def close(self) -> None:
        """Listens no more. Again: no effect."""
        if self._close.alive:
            self._close()
            self._ear.wait_closed()

    def __call__(self) -> float:
        mean = self._ear.timings.mean(clock.current().now())
        if mean is None:
            raise NoMeasure(f"no data: no such timing within {self.window:g} s")
        return mean

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"statsd(..., port={self.port})"


def statsd(name: str, *, host: str = "127.0.0.1", port: int = 8125, window: float = 60.0) -> Statsd:
    """A source for `steer`: the mean, in seconds, of the StatsD timings ``name:320|ms`` of the last `window` seconds.

    It listens on UDP at `host` and `port` (0: a free one, see its `port`) as a StatsD daemon does: a client such as
    `statsd.StatsClient` sends there, or a daemon's repeater. Sample rates count; tags do not, all of the name do. After
    a fork parent and child share the port, so that each hears a part of what comes, and the mean stays the same. Who
    can send there can steer: leave it on loopback. ConfigError for what cannot work, also for a port that is taken.
    """
    if not (isinstance(name, str) and name) or any(sign in name for sign in ":|\n"):
        raise ConfigError("name", name, "the name of a timing, as it is sent, without ':' and '|'")
    if not (isinstance(host, str) and host):
        raise ConfigError("host", host, "an address of this machine")
    checks.whole("port", port, least=0, most=65535)
    return Statsd(name, host, port, checks.number("window", window, above=0, unit="seconds"))
