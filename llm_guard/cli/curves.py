"""A curve over time in characters: filled braille, or plain ASCII. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: The dots of one braille character, from the lowest up: in its left and in its right column.
_LEFT, _RIGHT = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
_BRAILLE = 0x2800
_PLAIN = " .:#"


def points(at: Sequence[float], values: Sequence[float], end: float, count: int) -> list[float | None]:
    """The values at `count` even steps from 0 to `end` seconds: the mean of those that fall into a step, else the one
    that stood before. None after the last of `at`, which rises."""
    found: list[float | None] = []
    step, place = end / count, 0
    value = values[0] if values else 0.0
    for number in range(count):
        until = (number + 1) * step
        within = []
        while place < len(at) and at[place] <= until:
            within.append(values[place])
            place += 1
        if within:
            value = sum(within) / len(within)
        passed = bool(within) or place < len(at)
        found.append(value if passed else None)
    return found


def ceiling(values: Sequence[float]) -> float:
    """The top of an axis for these: 1, 2, 3 or 5 times a power of ten, so that it stands still for long."""
    most = max(values, default=0.0)
    if most <= 0:
        return 1.0
    ten = 10.0 ** math.floor(math.log10(most))
    return next(ten * times for times in (1, 2, 3, 5, 10) if most <= ten * times * (1 + 1e-9))


def rows(values: Sequence[float | None], top: float, height: int, *, ascii_only: bool = False) -> list[str]:
    """The curve from the highest row down, `height` of them; braille draws two values a character, ASCII one. A zero
    has the lowest dot, None has none."""
    fine = len(_PLAIN) - 1 if ascii_only else 4
    levels = [0 if value is None else max(1, round(min(value / top, 1.0) * height * fine)) for value in values]
    drawn = []
    for row in reversed(range(height)):
        parts = [min(max(level - row * fine, 0), fine) for level in levels]
        if ascii_only:
            drawn.append("".join(_PLAIN[part] for part in parts))
        else:
            pairs = zip(parts[0::2], [*parts, 0][1::2], strict=False)
            drawn.append("".join(_cell(left, right) for left, right in pairs))
    return drawn


def _cell(left: int, right: int) -> str:
    """So many dots from below; a space where there are none, for some fonts draw empty dots."""
    return chr(_BRAILLE + sum(_LEFT[:left]) + sum(_RIGHT[:right])) if left or right else " "
