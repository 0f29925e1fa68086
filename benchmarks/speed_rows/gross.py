"""Whether a ratio has become grossly worse than in a table that was written before. Times are never compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from speed_rows.row import Row, shown


def worse(rows: Iterable[Row], before: Mapping[str, Any], factor: float) -> list[str]:
    """What is to be said of each steady row that is so many times what it was, or, where more is better, so many times
    less. What the older table does not have is not judged."""
    known = {f"{row['part']}: {row['figure']}": row["value"] for row in before["rows"] if row["steady"]}
    said = []
    for row in rows:
        was = known.get(row.name)
        if not row.steady or was is None:
            continue
        if (was > factor * row.value) if row.at_least else (row.value > factor * was):
            said.append(f"{row.name} is {shown(row.value)}; it was {shown(was)}")
    return said


def judged(rows: Iterable[Row], before: Mapping[str, Any]) -> int:
    """How many rows the older table can be compared in."""
    known = {f"{row['part']}: {row['figure']}" for row in before["rows"] if row["steady"]}
    return sum(row.steady and row.name in known for row in rows)
