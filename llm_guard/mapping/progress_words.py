"""Progress in words, of which lines, bars and panels are made."""

from __future__ import annotations

import math
from datetime import datetime

from llm_guard.mapping.progress import Progress, Standing

_DAY = 86400.0


def duration(seconds: float) -> str:
    """0:07, 12:34, 1:02:03."""
    minutes, left = divmod(int(max(0.0, seconds) + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def left(seconds: float) -> str:
    """Of what is not over: 0:01 at the least."""
    return duration(max(1.0, seconds))


def time_of_day(wall: float, *, today: float | None = None) -> str:
    """14:03:20 in local time; with the day before it where that is not `today`'s. Both in seconds since the epoch."""
    when = datetime.fromtimestamp(wall)
    if today is None or when.date() == datetime.fromtimestamp(today).date():
        return f"{when:%H:%M:%S}"
    return f"{when:%a %H:%M}" if wall - today < 6 * _DAY else f"{when:%Y-%m-%d %H:%M}"


def share(progress: Progress) -> float | None:
    """From 0 to 1; None where the total is not known."""
    if progress.total is None:
        return None
    return min(1.0, progress.done / progress.total) if progress.total else 1.0


def percent(part: float) -> str:
    """Rounded down, so that 100% means all."""
    return f"{math.floor(100 * part + 1e-9)}%"


def rate(a_second: float) -> str:
    """38/s, 9.8/s, 0.47/s, 3.1/min: of even width, as it changes all the time."""
    return f"{_even(a_second)}/s" if a_second >= 0.1 or a_second <= 0 else f"{_even(60 * a_second)}/min"


def _even(value: float) -> str:
    if value <= 0:
        return "0"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def state(standing: Standing | None) -> str:
    """steady; holding, next probe in 4 s; paused until 14:03:20."""
    if standing is None:
        return ""
    if standing.state == "paused" and standing.paused_until is not None:
        return f"paused until {time_of_day(standing.paused_until)}"
    word = {"open": "circuit open", "half_open": "circuit half-open", "exhausted": "quota exhausted",
            "mixed": "in several states"}.get(standing.state, standing.state)
    if standing.next_probe_in is None:
        return word
    if standing.next_probe_in < 0.05:
        return f"{word}, probing"
    return f"{word}, next probe in {duration_or_seconds(standing.next_probe_in)}"


def duration_or_seconds(seconds: float) -> str:
    """12 s, 2:30."""
    return f"{math.ceil(seconds)} s" if seconds <= 99 else duration(seconds)


def counts(progress: Progress) -> str:
    """420 of 1000 (42%)."""
    part = share(progress)
    if part is None:
        return str(progress.done)
    return f"{progress.done} of {progress.total} ({percent(part)})"


def line(progress: Progress) -> str:
    """All of it in one line."""
    words = [f"{counts(progress)} done", rate(progress.rate) if not progress.over else duration(progress.elapsed)]
    if progress.recorded:
        words.append(f"{progress.recorded} from the journal")
    if progress.failed:
        words.append(f"{progress.failed} failed")
    if not progress.over:
        words.append(f"{progress.in_flight} in flight")
    if progress.retries:
        words.append(plural(progress.retries, "retry", "retries"))
    if not progress.over and progress.standing is not None:
        words.append(state(progress.standing))
    if progress.eta is not None:
        words.append(f"about {left(progress.eta)} left")
    return "; ".join(words) if any("," in word for word in words) else ", ".join(words)


def plural(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
