"""Ctrl-C, by real signals to real processes: once lets what is in flight end, twice cuts it off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.name != "posix", reason="interrupts are sent as signals")]

HEAD = """
    import itertools, os, signal, sys, threading, time
    from llm_guard import bounded, call, map_with_backpressure, retry
    from llm_guard.mapping.iterator import Mapping

    class Recorder:
        def __init__(self): self.waiting = []
        def recall(self, index, item): return None
        def record(self, result, then): self.waiting.append((result, then))
        def input_ended(self, total): pass
        def drop(self): print("dropped")
        def close(self, why):
            print("recorded", sorted(result.index for result, _ in self.waiting), why, flush=True)
            for _, then in self.waiting: then()

    def say(word):
        print(word, flush=True)

    started = itertools.count(1)
    def in_flight(item):
        if next(started) == 4:
            threading.Timer(0.1, say, ["ready"]).start()  # by then the main thread waits
        return item
"""


def run(script: str, *, interrupts: int = 1, apart: float = 0.3) -> tuple[int, list[str], str, float]:
    """Runs a script; interrupts it once it has said "ready". Also: the seconds from then on. A hang is an error."""
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(HEAD) + textwrap.dedent(script)], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise AssertionError(process.communicate()[1])
        began = time.monotonic()
        for number in range(interrupts):
            if number:
                time.sleep(apart)
            os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate()
        return process.returncode, out.splitlines(), err, time.monotonic() - began
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def mapping(function: str, *, recorder: str = "Recorder()") -> str:
    return (f"Mapping({function}, itertools.count(), workers=4, ordered=True, ahead=8, raises=True, show=None, "
            f"recorder={recorder})")


FUNCTION = """
    cut = []
    def function(item):
        in_flight(item)
        mine = call.in_progress()
        time.sleep(1.0)
        cut.append(mine.cut_off.is_cut)
        return item
"""


@pytest.mark.parametrize("how", ["next", "in a with block"])
def test_once_lets_what_is_in_flight_end_and_be_recorded(how: str) -> None:
    body = {"next": f"next({mapping('function')})",
            "in a with block": f"""
                with {mapping('lambda item: item if item == 0 else function(item)', recorder='None')} as values:
                    for value in values:
                        time.sleep(1000)
            """}[how]
    script = textwrap.dedent(FUNCTION) + f"""
try:
{textwrap.indent(textwrap.dedent(body), "    ")}
finally:
    say(cut)
"""
    code, said, err, seconds = run(script)
    assert code == -signal.SIGINT
    assert seconds > 0.5
    given = int(how != "next")
    note = f"llm_guard: interrupted; results given so far: {given}"
    if how == "next":
        assert said == ["recorded [0, 1, 2, 3] interrupted", "[False, False, False, False]"]
        note += "; what had ended is recorded: run it again with the same journal to go on"
    else:
        assert said == ["[False, False, False, False]"]
    assert err.strip().endswith(f"KeyboardInterrupt\n{note}")
    assert err.count("Traceback") == 1


def test_once_gives_up_at_once_what_waits_at_a_door_or_between_attempts() -> None:
    code, said, err, seconds = run(f"""
        limit = bounded(1)
        def fail(item):
            raise ConnectionError
        flaky = retry(attempts=9, wait=1000, jitter=None)(fail)
        held = limit(lambda item: (in_flight(item), time.sleep(0.5)))
        def function(item):
            if item == 0:
                return held(item)
            in_flight(item)
            return flaky(item) if item == 1 else held(item)
        next(started)
        try:
            next({mapping('function')})
        finally:
            say(limit.statistics().waiting)
    """)
    assert (code, said) == (-signal.SIGINT, ["recorded [0] interrupted", "0"])
    assert seconds < 30
    assert "KeyboardInterrupt" in err


@pytest.mark.parametrize("recorder", ["Recorder()", "None"], ids=["recorded", "not recorded"])
def test_twice_cuts_off_what_is_in_flight_and_does_not_wait_for_it(recorder: str) -> None:
    code, said, err, seconds = run(f"""
        def function(item):
            in_flight(item)
            mine = call.in_progress()
            mine.cut_off.watch(lambda: say("cut"))
            time.sleep(1000)
        next({mapping('function', recorder=recorder)})
    """, interrupts=2)
    assert code == -signal.SIGINT
    assert [line for line in said if line == "cut"] == ["cut"] * 4
    assert (said[-1] == "recorded [] interrupted") == (recorder != "None")
    assert seconds < 30
    assert "KeyboardInterrupt" in err


def test_close_from_another_thread_meanwhile_changes_nothing() -> None:
    code, said, _, _ = run(textwrap.dedent(FUNCTION) + f"""
values = {mapping('function')}
threading.Timer(0.4, values.close).start()
try:
    next(values)
finally:
    say(list(values))
""")
    assert code == -signal.SIGINT
    assert said == ["recorded [0, 1, 2, 3] interrupted", "[]"] or said == ["recorded [0, 1, 2, 3] closed", "[]"]


def test_a_consumer_that_catches_it_goes_on() -> None:
    code, said, err, _ = run(textwrap.dedent(FUNCTION) + f"""
try:
    next({mapping('function', recorder='None')})
except KeyboardInterrupt:
    pass
say(list(map_with_backpressure(abs, range(-3, 0))))
say([thread.name for thread in threading.enumerate() if "map" in thread.name])
""")
    assert (code, said, err) == (0, ["[3, 2, 1]", "[]"], "")


def test_a_handler_of_ones_own_is_left_alone() -> None:
    code, said, err, _ = run(textwrap.dedent(FUNCTION) + f"""
values = {mapping('function', recorder='None')}
signal.signal(signal.SIGINT, lambda *_: (say("mine"), values.stop()))
say(list(values))
""")
    assert (code, said, err) == (0, ["mine", "[0, 1, 2, 3]"], "")


def test_in_the_child_of_a_fork_a_mapping_ends_and_the_parent_goes_on() -> None:
    script = """
        import os, sys, time
        from llm_guard import call, map_with_backpressure
        def function(item):
            call.in_progress().cut_off.watch(lambda: os.getpid() == parent or print("cut", flush=True))
            time.sleep(0.2)
            return item
        parent = os.getpid()
        values = map_with_backpressure(function, range(8), workers=4)
        first = next(values)
        child = os.fork()
        if not child:
            try:
                next(values)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", flush=True)
            del values
            sys.exit(7)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, [first, *values])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Cancelled: the mapping belongs to the process in which it was begun",
                                        "7 [0, 1, 2, 3, 4, 5, 6, 7]"]
