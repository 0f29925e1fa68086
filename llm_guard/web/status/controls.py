"""Pause and resume, from the page."""

from __future__ import annotations

import json
import os
from typing import Any

from llm_guard.runtime.registry import registry
from llm_guard.web.status.snapshot import paces_of

#: The longest pause, in seconds: a week.
LONGEST_PAUSE = 7 * 86400.0


class Refused(Exception):
    """It cannot be done: `status` is HTTP's, the text says why, and holds nothing of what was sent."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def act(body: bytes) -> dict[str, Any]:
    """Does what a button asks for: `{"action": "pause", "function": name, "process": pid, "seconds": 60}`, or "resume"
    without seconds. Raises `Refused`; with 409 where another process was meant."""
    asked = _read(body)
    if asked.get("process", os.getpid()) != os.getpid():
        raise Refused(409, f"this is process {os.getpid()}")
    name = asked.get("function")
    member = registry.named().get(name) if isinstance(name, str) else None
    if member is None:
        raise Refused(404, "there is no such function here")
    paces = paces_of(member)
    if not paces:
        raise Refused(422, "this function has no @ramp_up, which is what can be paused")
    action = asked.get("action")
    if action == "resume":
        for pace in paces:
            pace.resume()
    elif action == "pause":
        seconds = asked.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_PAUSE:
            raise Refused(422, f"seconds must be a number above 0 and at most {LONGEST_PAUSE:g}")
        for pace in paces:
            pace.pause(float(seconds))
    else:
        raise Refused(422, "action must be 'pause' or 'resume'")
    return {"process": os.getpid(), "done": action}


def _read(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise Refused(400, "a JSON object is needed")
    return asked
