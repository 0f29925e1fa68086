"""How long a server asks its callers to wait, in seconds, and how many requests it says they have left.

Header forms: Retry-After (RFC 9110, section 10.2.3) as whole or broken seconds or as an HTTP date, `retry-after-ms`,
and where a rate limit has nothing left the time of its reset: `RateLimit: "api";r=0;t=55` of the IETF draft
(draft-ietf-httpapi-ratelimit-headers), or a pair such as `x-ratelimit-remaining-tokens` and `x-ratelimit-reset-tokens`.
In the body: `estimated_time` of a HuggingFace model that starts cold.

What is left is told with answers of any kind: in OpenAI's, Anthropic's and GitHub's pairs of headers, in the pair of
the IETF draft up to its version 06, and in its `RateLimit` from 07 on. Limits on tokens are passed over here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from llm_guard.clock import current
from llm_guard.outcome import Kind

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_STEP = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")  # one step of a Go duration such as 2m59.56s
_EPOCH = 1e9  # no server asks for 30 years: from here on a number of seconds is a time since the epoch
_RESETS = frozenset({Kind.LIMITED, Kind.GROWTH_LIMITED})
# Limits on requests: what is left, when all is back, and the limit itself.
_REQUESTS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-requests"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset",
     "anthropic-ratelimit-requests-limit"),
    ("x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-limit"),
    ("ratelimit-remaining", "ratelimit-reset", "ratelimit-limit"),
)
_NOISE = ("0", "-1")  # as a limit: Azure sends them for limits that it does not have


class Left(NamedTuple):
    """`remaining` requests are left; in `reset` seconds the account has all of them again. None: not told."""

    remaining: float | None = None
    reset: float | None = None


_UNTOLD = Left()


def left_in(headers: Mapping[str, str]) -> Left:
    """What the headers of an answer, their names in lower case, say of the limit on requests.

    Of several limits the one that binds soonest, which is the one that leaves the fewest requests a second until its
    reset; one without a readable reset counts only where no other is told.
    """
    # Most answers tell nothing, and are done with here.
    if not any("ratelimit" in name for name in headers):
        return _UNTOLD
    found = [Left(_count(headers[remaining]), wait_until(headers.get(reset, "")))
             for remaining, reset, limit in _REQUESTS
             if remaining in headers and headers.get(limit, "").strip() not in _NOISE]
    found += [Left(_count(members.get("r", "")), wait_until(members.get("t", "")))
              for name, members in _policies(headers) if "token" not in name]
    return min((left for left in found if left.remaining is not None), key=_binds, default=_UNTOLD)


def hint_of(kind: Kind, headers: Mapping[str, str], body: object) -> float | None:
    """The wait in seconds that an answer of this kind asks for, or None; `headers` has its names in lower case.

    A header beats the body. An exhausted quota is waited out by a header alone, since bodies give a rate's wait there.
    """
    if kind is Kind.INVALID:
        return None
    asked = _header(headers)
    if asked is None and kind is Kind.LOADING:
        asked = seconds_in(body, "estimated_time")
    if asked is None and kind in _RESETS:
        asked = _reset(headers)
    return asked


def seconds_in(body: object, key: str) -> float | None:
    """The number of seconds at `key` of a JSON object, or None where there is none that makes sense."""
    value = body.get(key) if isinstance(body, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return float(value)


def wait_until(value: str) -> float | None:
    """The seconds from now that one header value means, or None.

    Read as seconds (from 1e9 on since the epoch, from 1e12 on in ms), as a Go duration, an HTTP date or an RFC 3339
    time. A moment that has passed is 0.
    """
    value = value.strip()
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


def _count(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _binds(left: Left) -> tuple[bool, float, float]:
    """Sorts the limit first that leaves the fewest requests a second, and of those with none left the longest one."""
    remaining, reset = left.remaining or 0.0, left.reset
    if reset is None:
        return True, remaining, 0.0
    return False, remaining / reset if reset else math.inf, -reset


def _policies(headers: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The name and the parameters of each limit in the `RateLimit` header of the draft."""
    for policy in headers.get("ratelimit", "").split(","):
        parts = policy.split(";")
        yield parts[0].lower(), dict(part.strip().partition("=")[::2] for part in parts)


def _header(headers: Mapping[str, str]) -> float | None:
    try:
        exact = float(headers.get("retry-after-ms", "")) / 1000
    except ValueError:
        exact = -1.0
    if 0 <= exact < math.inf:
        return exact
    return wait_until(headers["retry-after"]) if "retry-after" in headers else None


def _reset(headers: Mapping[str, str]) -> float | None:
    """The longest reset among the limits of which nothing is left; those with some left are no reason to wait."""
    found = []
    for _, members in _policies(headers):
        if members.get("r") == "0" and "t" in members:
            found.append(wait_until(members["t"]))
    for name, value in headers.items():
        if ("ratelimit" in name and "remaining" in name and value.strip() == "0"
                and headers.get(name.replace("remaining", "limit", 1)) not in _NOISE):
            found.append(wait_until(headers.get(name.replace("remaining", "reset", 1), "")))
    return max((wait for wait in found if wait is not None), default=None)
