"""What an answer's headers tell of the limits on its account: how much is left, and when all of it is back.

Three ways of telling it, with answers of any kind: pairs of headers such as `x-ratelimit-remaining-requests` and
`x-ratelimit-reset-requests` (OpenAI, Groq, Cerebras, Fireworks), `anthropic-ratelimit-tokens-remaining` or
`x-tokenlimit-remaining` (Together), which differ in the words around "remaining" alone; the pair of the IETF draft up
to its version 06 (draft-ietf-httpapi-ratelimit-headers), which is of the same form; and the draft's `RateLimit` from
version 07 on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from llm_guard.llm.waits import wait_until

REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
_OTHER: Final = "other"  # images, bytes, seconds of audio
_NOISE: Final = ("0", "-1")  # as a limit: Azure sends them for limits that it does not have
# Words of a header's name that leave it a limit on requests.
_PLAIN: Final = frozenset({"x", "ratelimit", "rate", "limit", "remaining", "second", "minute", "hour", "day", "month",
                           "dynamic"})


class Left(NamedTuple):
    """So many are left now (`remaining`); in `reset` seconds the account has all of them again. None: not told."""

    remaining: float | None = None
    reset: float | None = None


class _Limit(NamedTuple):
    """A limit as the headers tell it, unread."""

    of: str
    remaining: str
    reset: str


Both = tuple[float | None, float | None, float | None, float | None]
UNTOLD: Final[Both] = (None, None, None, None)


def both_in(headers: Mapping[str, str]) -> Both:
    """What is left of the requests, their reset, what is left of the tokens, their reset: as the headers of an answer,
    their names in lower case, say.

    Of several limits the one that binds soonest, which is the one that leaves the fewest a second until its reset; one
    without a readable reset counts only where no other is told.
    """
    limits = _limits_in(headers)
    return (*_soonest(limits, REQUESTS), *_soonest(limits, TOKENS)) if limits else UNTOLD


def _limits_in(headers: Mapping[str, str]) -> list[_Limit]:
    """All limits that the headers tell of, but those that are none."""
    found = []
    for name in headers:
        place = _place(name)
        if place is None:
            continue
        of, reset, limit, shared = place
        if headers.get(limit, "").strip() not in _NOISE:
            found.append(_Limit(of, headers[name].strip(), headers.get(reset) or headers.get(shared, "")))
    if "ratelimit" in headers:
        found += _policies(headers["ratelimit"], headers.get("ratelimit-policy", ""))
    return found


def reset_of(headers: Mapping[str, str]) -> float | None:
    """The seconds until a refusal for a limit's sake ends, or None.

    The longest reset among the limits of which nothing is left; those with some left are no reason to wait. A bare
    `x-ratelimit-reset`, without a number that is left, is the provider's word for it (Together, Cohere).
    """
    waits = [wait_until(limit.reset) for limit in _limits_in(headers) if limit.remaining == "0"]
    if not waits and "x-ratelimit-remaining" not in headers:
        waits = [wait_until(headers.get("x-ratelimit-reset", ""))]
    return max((wait for wait in waits if wait is not None), default=None)


@lru_cache(maxsize=1024)
def _place(name: str) -> tuple[str, str, str, str] | None:
    """Of a header that says what is left: of what, and the names of the reset, the limit, and a reset for all."""
    if "remaining" not in name or not ("ratelimit" in name or "rate-limit" in name or "tokenlimit" in name):
        return None
    words = set(re.split("[-_]", name))
    if "token" in name or "bysize" in name:
        of = TOKENS
    elif words & {"requests", "request", "req"} or words <= _PLAIN:
        of = REQUESTS
    else:
        of = _OTHER
    shared = "x-ratelimit-reset" if "tokenlimit" in name else ""
    return of, name.replace("remaining", "reset", 1), name.replace("remaining", "limit", 1), shared


def _policies(told: str, policies: str) -> Iterator[_Limit]:
    """The limits in `RateLimit`, of which `RateLimit-Policy` may name the units."""
    if "remaining=" in told:  # as version 07 alone has it: limit=100, remaining=50, reset=30
        members = _members(told.split(","))
        yield _Limit(REQUESTS, members.get("remaining", ""), members.get("reset", ""))
        return
    units = {name: members["qu"] for name, members in _items(policies) if "qu" in members}
    for name, members in _items(told):
        unit = units.get(name, REQUESTS)
        of = TOKENS if "token" in name or "token" in unit else REQUESTS if unit == REQUESTS else _OTHER
        yield _Limit(of, members.get("r", ""), members.get("t", ""))


def _items(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The names and the parameters in a list of structured fields such as `"api";r=0;t=55`."""
    for item in value.lower().split(","):
        name, *members = item.split(";")
        yield name.strip(), _members([name, *members])


def _members(parts: list[str]) -> dict[str, str]:
    return {name.strip(): value.strip(' "') for name, _, value in (part.partition("=") for part in parts)}


def _soonest(limits: list[_Limit], of: str) -> Left:
    found = [Left(count, wait_until(limit.reset)) for limit in limits
             if limit.of == of and (count := _count(limit.remaining)) is not None]
    if len(found) == 1:
        return found[0]
    return min(found, key=_binds, default=Left())


def _count(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _binds(left: Left) -> tuple[bool, float, float]:
    """Sorts the limit first that leaves the fewest a second, and of those with none left the longest one."""
    remaining, reset = left.remaining or 0.0, left.reset
    if reset is None:
        return True, remaining, 0.0
    return False, remaining / reset if reset else math.inf, -reset
