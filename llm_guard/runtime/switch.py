"""One switch that turns every guard off: the bare functions are called instead.

Off from the start where the environment has LLM_GUARD_DISABLED set to anything but 0 or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

#: Read on every call; set it through the functions below.
is_off = os.environ.get("LLM_GUARD_DISABLED", "0") not in ("", "0")


def disable() -> None:
    """Turns all guards of the process off, for calls that begin from now on."""
    global is_off
    is_off = True


def enable() -> None:
    """Turns them on again."""
    global is_off
    is_off = False


@contextmanager
def disabled() -> Iterator[None]:
    """Off inside the block, for the whole process; for tests."""
    global is_off
    before, is_off = is_off, True
    try:
        yield
    finally:
        is_off = before
