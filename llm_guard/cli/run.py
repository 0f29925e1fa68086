"""`llm-guard run`: from the options to the exit code."""

from __future__ import annotations

from pathlib import Path

import click

from llm_guard.cli import dry_run
from llm_guard.cli.answers import error_of, output_row
from llm_guard.cli.asking import Under, guarded
from llm_guard.cli.exits import Exit, Problem
from llm_guard.cli.items import checked, empty
from llm_guard.cli.outputs import STREAM, Output, is_special
from llm_guard.cli.reach import reach
from llm_guard.cli.settings import Settings
from llm_guard.cli.stopping import AllInvalid
from llm_guard.mapping.mapping import map_with_backpressure


def run(settings: Settings) -> Exit:
    """Does it; click's `UsageError` or a `Problem` where it cannot be done."""
    source, asked = settings.input(), settings.target()
    items = settings.items(asked)
    if settings.out is None and not settings.dry_run:
        raise click.UsageError("Where do the answers go? Give --out FILE, or --out - for the standard output.")
    if settings.out is not None:
        _check_out(settings.out, settings.force)
    count = checked(source, items, settings.keep_going) if source.can_be_read_again else None
    if settings.dry_run:
        dry_run.show(source, items, asked, count)
        return Exit.ANSWERED
    assert settings.out is not None
    output = Output(settings.out, settings.writer())
    try:
        reach(asked.call.request("").url, settings.server_wait, lambda line: click.echo(line, err=True))
        ask = guarded(settings, asked)
        failed = done = 0
        refused = AllInvalid()
        with source.rows() as rows:
            under = Under(items.of(rows))
            for result in map_with_backpressure(ask, under.asked(), workers=settings.workers, on_error="return",
                                                results=True):
                error = None if result.error is None else error_of(result.error)
                output.write(output_row(under.of(result.index), result.value, error, settings.id_field is not None))
                done += 1
                failed += error is not None
                if refused.add(error):
                    raise Problem(refused.words(error or {}), Exit.STOPPED)
        if not done:
            raise empty(source)
        output.commit()
    finally:
        output.close()
    return Exit.FAILED_ITEMS if failed else Exit.ANSWERED


def _check_out(out: str, force: bool) -> None:
    if out == STREAM or force or not Path(out).exists() or is_special(Path(out)):
        return
    raise Problem(f"{out} exists: --force replaces it", Exit.FILES)
