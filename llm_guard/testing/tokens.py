"""The answer of a server as tokens: what they are, how many, and when each of them comes."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: The first token comes after this share of the time that the work on a call takes: the prompt is read first.
FIRST_TOKEN = 0.25
_TOKEN = re.compile(r"\s*\S+|\s+")


def tokens_of(text: str) -> list[str]:
    """The text in pieces, which joined are the text again: each a word and the white space before it."""
    return _TOKEN.findall(text)


def instants(begins: float, ends: float, count: int) -> Iterator[float]:
    """When each of `count` tokens comes but for the last, which comes at the end: evenly over the work's time."""
    first = begins + (ends - begins) * FIRST_TOKEN
    for place in range(count - 1):
        yield first + (ends - first) * place / (count - 1)
