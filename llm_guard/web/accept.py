"""Which form of an answer a client would rather have, by its Accept header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterator

_JSON = ("application/problem+json", "application/json")
_HTML = ("text/html", "application/xhtml+xml")


def prefers_html(accept: str | None) -> bool:
    """True where HTML is liked better than JSON; JSON goes to who likes both alike, says nothing, or takes neither."""
    if not accept:
        return False
    ranges = list(_ranges(accept))
    return max(_quality(ranges, each) for each in _HTML) > max(_quality(ranges, each) for each in _JSON)


def _quality(ranges: list[tuple[str, float]], media_type: str) -> float:
    """How much a type is liked, by the range that fits it most closely."""
    kind = media_type.split("/")[0]
    for fitting in (media_type, f"{kind}/*", "*/*"):
        found = [quality for name, quality in ranges if name == fitting]
        if found:
            return max(found)
    return 0.0


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _weight(value.strip())
        if name:
            yield name, quality


def _weight(value: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0  # also where it is no number
