"""How long a server asks its callers to wait, in seconds.

A header that says so comes first: in milliseconds (`retry-after-ms` of OpenAI and Azure, `x-amz-retry-after`), or
Retry-After. After it what the API's own signal holds, in its body or a sentence; last the reset of a limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from llm_guard.llm.limits import reset_of
from llm_guard.llm.signal_table import IN_WORDS, Signal
from llm_guard.llm.waits import wait_in_words, wait_of, wait_until
from llm_guard.outcome import Kind

_MILLISECONDS: Final = ("retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after")
_OF_LIMITS: Final = frozenset({Kind.LIMITED, Kind.GROWTH_LIMITED, Kind.OVERLOAD})


def hint_of(kind: Kind, headers: Mapping[str, str], signal: Signal | None = None,
            parts: tuple[dict[str, object], ...] = (), text: str = "") -> float | None:
    """The wait in seconds that an error of this kind asks for, or None.

    `headers` has its names in lower case; `signal` is the row that the error was read by, `parts` and `text` are what
    `said` found in its body. An exhausted quota is waited out by a header alone, since bodies give a rate's wait there.
    """
    if kind is Kind.INVALID:
        return None
    asked = _header(headers)
    if asked is None and signal is not None and kind is not Kind.QUOTA:
        asked = _signal(signal, headers, parts, text)
    if asked is None and kind in _OF_LIMITS:
        asked = reset_of(headers)
    return asked


def _header(headers: Mapping[str, str]) -> float | None:
    for name in _MILLISECONDS:
        if name in headers:
            try:
                exact = float(headers[name]) / 1000
            except ValueError:
                continue
            if 0 <= exact < math.inf:
                return exact
    return wait_until(headers["retry-after"]) if "retry-after" in headers else None


def _signal(signal: Signal, headers: Mapping[str, str], parts: tuple[dict[str, object], ...],
            text: str) -> float | None:
    for place in signal.waits:
        if not isinstance(place, str):
            return place
        if place == IN_WORDS:
            found = wait_in_words(text)
        else:
            told = (*(part.get(place) for part in parts), headers.get(place))
            found = next((wait for value in told if (wait := wait_of(value)) is not None), None)
        if found is not None:
            return found
    return None
