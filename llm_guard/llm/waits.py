"""The forms in which a wait is written: in a header, in a member of a body, in a sentence.

Retry-After (RFC 9110, section 10.2.3) is in seconds or an HTTP date. Rate limits tell their resets as Go durations
(`2m59.56s`), as seconds, as seconds or milliseconds since the epoch, or as RFC 3339 times; Google's bodies have the
durations of protobuf's JSON (`34.07s`). Several providers only write a sentence.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from llm_guard.clock import current

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_STEP: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")  # one step of a Go duration such as 2m59.56s
_EPOCH: Final = 1e9  # no server asks for 30 years: from here on a number of seconds is a time since the epoch
_LONGEST: Final = 100  # characters; no form of a wait is longer
_MOST: Final = 1e12  # seconds; and no wait

_NUMBER: Final = r"\d{1,9}(?:\.\d{1,12})?"
_UNIT: Final = r"(?:ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])"
#: "Please retry after 6 seconds", "try again in 2m59.56s", "resets in ~30s", "wait 1 minute and 5 seconds". A number
#: without a unit is passed over: it may count anything.
_SENTENCE: Final = re.compile(
    r"\b(?:retry|try again|resets?|available|wait)(?: again)?(?: after| in| for)?:? (?:about |approximately )?~?"
    rf"((?:{_NUMBER} ?{_UNIT}(?:,? and |, | )?){{1,4}})")
_SPOKEN: Final = re.compile(r"(\d+(?:\.\d+)?) ?(millis|ms|[smhd])")
_SPOKEN_UNITS: Final = {"millis": 0.001, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def wait_until(value: str) -> float | None:
    """The seconds from now that one header value means, or None.

    Read as seconds (from 1e9 on since the epoch, from 1e12 on in ms), as a Go duration, an HTTP date or an RFC 3339
    time. A moment that has passed is 0.
    """
    value = value.strip()
    if not value or len(value) > _LONGEST:
        return None
    try:
        number = float(value)
    except ValueError:
        steps = _STEP.findall(value)
        if steps and "".join(map("".join, steps)) == value:
            total = sum(float(count) * _UNITS[unit] for count, unit in steps)
            return total if total < math.inf else None
        return _from_now(_date(value))
    if not 0 <= number < math.inf:
        return None
    return number if number < _EPOCH else _from_now(number if number < _EPOCH * 1000 else number / 1000)


def wait_of(value: object) -> float | None:
    """The seconds that a member of a JSON body means: a number of them, or a duration as text; None for all else."""
    if isinstance(value, str):
        return wait_until(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
        return None
    return float(value)


def wait_in_words(text: str) -> float | None:
    """The seconds that a sentence in lower case asks to wait, or None where it names no time with its unit."""
    found = _SENTENCE.search(text)
    if found is None:
        return None
    return sum(float(count) * _SPOKEN_UNITS[unit] for count, unit in _SPOKEN.findall(found[1]))


def _from_now(moment: float | None) -> float | None:
    return None if moment is None else max(0.0, moment - current().wall())


def _date(value: str) -> float | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = read(value)
            # Both forms may come without a zone; HTTP knows UTC alone.
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None
