"""When a run ends early by itself: the server refuses every request as wrong, so that no further one is worth sending.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llm_guard.outcome import Kind

#: So many items, the first that come back, all of them invalid: it is not the items that are wrong.
ALL_OF: Final = 10
_ADVICE: Final = {401: "is the key right?", 403: "is the key right, and may it use this model?",
                  404: "are --url, --model and --format right?", 405: "are --url and --format right?",
                  400: "are --model, --parameters and --format right?",
                  422: "are --model, --parameters and --format right?"}


class AllInvalid:
    """Watches the ends of the items that were asked in this run."""

    def __init__(self) -> None:
        self._same = 0
        self._answered = False

    def add(self, error: Mapping[str, Any] | None) -> bool:
        """Takes one more end; whether the run is to stop."""
        if error is None or error.get("outcome") != Kind.INVALID.value:
            self._answered |= error is None
            self._same = 0
        else:
            self._same += 1
        return not self._answered and self._same >= ALL_OF

    @staticmethod
    def words(error: Mapping[str, Any]) -> str:
        """Why it stopped, by the last of the errors."""
        status, code = error.get("status"), error.get("code")
        told = " ".join(str(word) for word in ("status" if status else None, status, f"({code})" if code else None)
                        if word) or error.get("type", "an error")
        advice = f": {_ADVICE[status]}" if status in _ADVICE else ""
        return f"the server refused each of the first {ALL_OF} requests as wrong, with {told}{advice}"
