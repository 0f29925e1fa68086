"""The live panel of a run, as something that rich prints: for a width, a height and an alphabet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_guard.cli import curves
from llm_guard.cli.history import History
from llm_guard.mapping import progress_words as words
from llm_guard.mapping.progress import Progress
from llm_guard.outcome import Kind

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_COLOURS = {"cold": "blue", "ramping": "cyan", "steady": "green", "holding": "yellow", "paused": "magenta",
            "exhausted": "red", "open": "red", "half_open": "yellow"}
_LABEL, _AXIS = 10, 5
#: Curves begin with an axis of so many seconds, so that the first answers do not leap about.
_SHORTEST = 30.0
#: Rows of the panel without curves: the frame, the bar, the words, and one to spare for words that wrap.
_REST = 10


@dataclass(frozen=True, slots=True)
class Look:
    """How much room there is, in characters and lines, and whether all is to be ASCII."""

    width: int
    height: int
    ascii_only: bool = False


def panel(title: str, progress: Progress, history: History, look: Look) -> RenderableType:
    """`title` says what is called; it holds no payload."""
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    inner = max(20, look.width - 4)
    dot = " | " if look.ascii_only else " · "
    parts: list[Text] = [_bar(progress, inner, look)]
    rows = min(3, (look.height - _REST - 2) // 2)
    if rows > 0:
        parts += [Text(), *_curves(progress, history, inner, rows, look), Text()]
    state = words.state(progress.standing) or ("over" if progress.over else "at work")
    parts += _labelled("state", [state], dot, inner, _COLOURS.get(progress.state or "", ""))
    for label, said in (("items", _items(progress)), ("calls", _calls(progress)), ("time", _time(progress))):
        parts += _labelled(label, said, dot, inner)
    shown = Text(printable(title, ascii_only=look.ascii_only), "bold")
    shown.truncate(inner, overflow="ellipsis" if not look.ascii_only else "crop")
    return Panel(Group(*parts), title=shown, title_align="left", border_style="dim", width=look.width,
                 box=box.ASCII if look.ascii_only else box.ROUNDED)


def printable(text: str, *, ascii_only: bool = False) -> str:
    """What names the run comes from outside: no control character of it reaches the terminal, and nothing that this
    would spell out with more letters than were reckoned with."""
    if ascii_only:
        text = text.replace("·", "|")
    return "".join(letter if letter.isprintable() and (letter.isascii() or not ascii_only) else "?" for letter in text)


def _bar(progress: Progress, inner: int, look: Look) -> Text:
    from rich.text import Text

    part = words.share(progress)
    if part is None:
        return Text(f"{progress.done} items")
    total = str(progress.total)
    told = f" {progress.done:>{len(total)}} of {total} {words.percent(part):>4}"
    room = max(1, inner - len(told))
    full = int(part * room)
    done, rest = ("#", "-") if look.ascii_only else ("█", "░")
    bar = Text(done * full, "green" if progress.over and part == 1 else "cyan")
    bar.append(rest * (room - full), "dim")
    return bar.append(told, "bold")


def _curves(progress: Progress, history: History, inner: int, height: int, look: Look) -> list[Text]:
    from rich.text import Text

    samples = history.samples
    at = [sample.at for sample in samples]
    end = max(_SHORTEST, at[-1] if at else 0.0)
    width = inner - _LABEL - _AXIS - 1
    lines = []
    for label, value, values, style in (
            ("rate", words.rate(progress.rate), [sample.rate for sample in samples], "green"),
            ("in flight", str(progress.in_flight), [sample.in_flight for sample in samples], "blue")):
        drawn = curves.points(at, values, end, width if look.ascii_only else 2 * width)
        top = curves.ceiling([value for value in drawn if value is not None])
        left = [label, value]
        axis = [f"{top:g}", *[""] * (height - 2), "0"] if height > 1 else [f"{top:g}"]
        for row, curve in enumerate(curves.rows(drawn, top, height, ascii_only=look.ascii_only)):
            lines.append(Text.assemble(
                (f"{left[row] if row < len(left) else '':<{_LABEL}}", "bold" if row == 1 else "dim"),
                (f"{axis[row]:>{_AXIS}} ", "dim"), (curve, style)))
    until = words.duration(end)
    lines.append(Text(f"{'':{_LABEL + _AXIS + 1}}0:00{until:>{width - 4}}", "dim"))
    return lines


def _labelled(label: str, said: list[str], dot: str, inner: int, style: str = "") -> list[Text]:
    """Wrapped beside its label, between two things said."""
    from rich.text import Text

    lines = [said[0]]
    for part in said[1:]:
        if len(lines[-1]) + len(dot) + len(part) <= inner - _LABEL:
            lines[-1] += dot + part
        else:
            lines.append(part)
    return [Text.assemble((f"{label if not place else '':<{_LABEL}}", "dim"), (line, style))
            for place, line in enumerate(lines)]


def _items(progress: Progress) -> list[str]:
    said = [f"{progress.succeeded - min(progress.recorded, progress.succeeded)} answered"]
    if progress.recorded:
        said.append(f"{progress.recorded} from the journal")
    if progress.failed:
        said.append(f"{progress.failed} failed")
    if not progress.over:
        said.append(f"{progress.in_flight} in flight")
        if progress.waiting:
            said.append(f"{progress.waiting} waiting")
    return said


def _calls(progress: Progress) -> list[str]:
    said = [str(progress.attempts)]
    if progress.retries:
        said.append(words.plural(progress.retries, "retry", "retries"))
    said += [f"{kind.value.replace('_', ' ')} {count}" for kind, count in by_number(progress)
             if kind is not Kind.SUCCESS]
    return said


def by_number(progress: Progress) -> list[tuple[Kind, int]]:
    """The outcomes that came, in the order in which they are defined, so that none jumps about."""
    return [(kind, progress.outcomes[kind]) for kind in Kind if progress.outcomes.get(kind)]


def _time(progress: Progress) -> list[str]:
    said = [words.duration(progress.elapsed)]
    if progress.over:
        return said
    if progress.eta is not None:
        said += [f"about {words.left(progress.eta)} left",
                 f"ends at {words.time_of_day(progress.wall + progress.eta, today=progress.wall)}"]
    return said
