"""`llm-guard run`: from the options to the exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from llm_guard.cli import dry_run
from llm_guard.cli.exits import Exit, Problem, reason
from llm_guard.cli.history import History
from llm_guard.cli.inputs import STREAM
from llm_guard.cli.items import checked
from llm_guard.cli.keeping import journal
from llm_guard.cli.outputs import PART, is_special
from llm_guard.cli.plot import check_plot, save_plot
from llm_guard.cli.screen import screen
from llm_guard.cli.settings import Settings
from llm_guard.cli.summary import print_summary
from llm_guard.cli.work import Ended, Work
from llm_guard.errors import ConfigError


def run(settings: Settings) -> Exit:
    """Does it; click's `UsageError` or a `Problem` where it cannot be done."""
    source, asked = settings.input(), settings.target()
    items = settings.items(asked)
    source.check()
    if settings.dry_run:
        count = checked(source, items, settings.keep_going) if source.can_be_read_again else None
        dry_run.show(source, items, asked, count)
        return Exit.ANSWERED
    if settings.out is None:
        raise click.UsageError("Where do the answers go? Give --out FILE, or --out - for the standard output.")
    _check_places(settings)
    kept = journal(settings, asked)
    count = checked(source, items, settings.keep_going) if source.can_be_read_again else None
    history = History()
    title = f"{source.name} to {asked.model}"
    with screen(title, history, settings.quiet) as shown:
        ended = Work(settings, source, asked, items, count, kept, shown).go()
    places = [("output", settings.out)] * (settings.out != STREAM)
    if kept is not None:
        places.append(("journal", f"{settings.journal_path()}"))
    if settings.plot is not None and _drawn(history, Path(settings.plot), title):
        places.append(("plot", settings.plot))
    if not settings.quiet and shown.last is not None:
        print_summary(shown.last, places=places, then=_then(ended, kept is not None))
    if ended.why:
        raise Problem(ended.why, ended.code)
    return ended.code


def _then(ended: Ended, is_kept: bool) -> str | None:
    if not is_kept:
        return None
    if ended.code == Exit.ANSWERED:
        return "The journal stays: the same command makes the output anew, without a call."
    if ended.code == Exit.FAILED_ITEMS:
        return "The same command again asks only what has no answer yet."
    return "Nothing is lost: the same command goes on from here."


def _check_places(settings: Settings) -> None:
    """What can be known to be wrong before the input is read."""
    for option, path in (("--out", settings.out), ("--journal", settings.journal)):
        if path is None or path == STREAM:
            continue
        if Path(path).is_dir():
            raise Problem(f"{option} {path} is a folder, where a file belongs", Exit.FILES)
        if not is_special(Path(path)) and not Path(path).absolute().parent.is_dir():
            raise Problem(f"{option} {path} cannot be written: there is no folder {Path(path).parent}", Exit.FILES)
    _check_apart(settings)
    if settings.plot is not None:
        try:
            check_plot(Path(settings.plot))
        except (ConfigError, ImportError) as error:
            raise click.UsageError(f"--plot: {error}.") from None


def _check_apart(settings: Settings) -> None:
    """No file is written over another one of the same run, whatever --force says."""
    named = [("INPUT", settings.source), ("--out", settings.out), ("the journal", settings.journal_path()),
             ("--plot", settings.plot)]
    if settings.out not in (None, STREAM):
        named.append(("what --out is called while it is written", f"{settings.out}{PART}"))
    known: dict[str, str] = {}
    for name, path in named:
        if path is None or path == STREAM or is_special(Path(path)):
            continue
        place = os.path.realpath(path)
        other = known.setdefault(place, name)
        if other != name:
            raise click.UsageError(f"{other} and {name} are the same file: {path}.")


def _drawn(history: History, path: Path, title: str) -> bool:
    """A run is not lost for its picture."""
    try:
        save_plot(history, path, title)
    except OSError as error:
        click.echo(f"{path} cannot be written: {reason(error)}", file=sys.stderr)
        return False
    return True
