"""What would be sent, for the eyes of who asks: nothing is."""

from __future__ import annotations

import json
from itertools import islice
from typing import Final

import click

from llm_guard.cli.inputs import Source
from llm_guard.cli.items import Items
from llm_guard.cli.target import Target

SHOWN: Final = 3
_MOST: Final = 2000  # characters of a body


def show(source: Source, items: Items, asked: Target, count: int | None) -> None:
    """Prints how many there are and what the first would be; None: they cannot be counted without being taken."""
    with source.rows() as rows:
        first = list(islice(items.of(rows), SHOWN))
    many = "As many requests as lines come" if count is None else f"{count:,} request{'s'[:count != 1]}"
    click.echo(f"{many} from {source.name}, with {asked.key}. Nothing is sent.")
    for item in first:
        click.echo()
        if item.problem:
            click.secho(f"line {item.line}: {item.problem}", fg="red")
            continue
        request = asked.call.request(item.prompt)
        click.secho(f"line {item.line}: POST {request.url}", bold=True)
        click.echo(f"headers: {', '.join(request.headers)}")
        body = json.dumps(request.body, indent=2, ensure_ascii=False)
        click.echo(body if len(body) <= _MOST else f"{body[:_MOST]}\n... {len(body) - _MOST:,} characters more")
    if count is not None and count > len(first):
        click.echo(f"\nand {count - len(first):,} more")
