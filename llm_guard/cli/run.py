"""`llm-guard run`: from the options to the exit code."""

from __future__ import annotations

from pathlib import Path

import click

from llm_guard.cli import dry_run
from llm_guard.cli.answers import UnusableLine, error_of, output_row, recorded
from llm_guard.cli.exits import Exit, Problem
from llm_guard.cli.items import Item, checked, empty
from llm_guard.cli.outputs import STREAM, Output, is_special
from llm_guard.cli.reach import reach
from llm_guard.cli.settings import Settings
from llm_guard.cli.stopping import AllInvalid
from llm_guard.cli.target import Target
from llm_guard.mapping.mapping import map_with_backpressure
from llm_guard.outcome import Kind
from llm_guard.policies.bounded import bounded
from llm_guard.policies.ramp_up import ramp_up
from llm_guard.policies.retry import retry
from llm_guard.policies.timeout import timeout
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.stack import stack


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
        with source.rows() as rows, map_with_backpressure(ask, items.of(rows), workers=settings.workers,
                                                          on_error="return", results=True) as results:
            for result in results:
                error = None if result.error is None else error_of(result.error)
                output.write(output_row(result.input, result.value, error, settings.id_field is not None))
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


def guarded(settings: Settings, asked: Target) -> Guarded[[Item], dict[str, object]]:
    """The call of one item, under all guards."""
    call = asked.call

    def ask(item: Item) -> dict[str, object]:
        if item.problem:
            raise UnusableLine(f"line {item.line}: {item.problem}")
        return recorded(call(item.prompt))

    guards = stack(ramp_up(ceiling=settings.ceiling), bounded(settings.workers),
                   retry(attempts=settings.attempts, max_refusal_wait=settings.max_refusal_wait),
                   timeout(settings.timeout),
                   classify=lambda end: Kind.IGNORED if isinstance(end, UnusableLine) else None)
    return guards(ask)


def _check_out(out: str, force: bool) -> None:
    if out == STREAM or force or not Path(out).exists() or is_special(Path(out)):
        return
    raise Problem(f"{out} exists: --force replaces it", Exit.FILES)
