"""What a run was told to do, checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import click

from llm_guard.cli.answers import CsvWriter, JsonWriter, Writer
from llm_guard.cli.inputs import PROMPT, STREAM, Source, format_of
from llm_guard.cli.items import Items
from llm_guard.cli.prompts import Field, Maker, Template, TemplateError, WithSystem
from llm_guard.cli.target import Target, target

_OF_FILE: Final = "@"
#: What a journal is called where nobody says: the output's name and this.
JOURNAL: Final = ".journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `llm-guard run`, as they were given."""

    source: str
    out: str | None
    url: str | None
    model: str | None
    format: str | None
    endpoint: str | None
    key_from: str | None
    system: str | None
    parameters: str | None
    field: str | None
    template: str | None
    id_field: str | None
    keep: tuple[str, ...]
    input_format: str | None
    output_format: str | None
    keep_going: bool
    journal: str | None
    force: bool
    workers: int
    ceiling: float | None
    timeout: float
    attempts: int
    max_refusal_wait: float
    server_wait: float
    failures: int | None
    failure_rate: float | None
    plot: str | None
    dry_run: bool
    quiet: bool

    def input(self) -> Source:
        """Where the rows come from."""
        found = self.input_format or format_of(self.source)
        if found is None:
            name = "standard input" if self.source == STREAM else self.source
            raise click.UsageError(f"What is in {name}? Say --input-format jsonl, csv, tsv or text.")
        return Source(self.source, found)

    def target(self) -> Target:
        """The API that is asked."""
        return target(self.format, self.url, self.model, self.endpoint, self.key_from, self.parameters_given(),
                      self.timeout)

    def items(self, asked: Target) -> Items:
        """How rows become what is asked."""
        maker: Maker
        if self.template is not None:
            if self.field is not None:
                raise click.UsageError("--field or --template: a template names the fields that it takes.")
            try:
                maker = Template(text_of("--template", self.template))
            except TemplateError as error:
                raise click.UsageError(f"--template has {error}.") from None
        else:
            maker = Field(self.field or PROMPT)
        if self.system is not None:
            if asked.endpoint == "completion":
                raise click.UsageError("--system needs a chat, which a completion is not: give --endpoint chat.")
            maker = WithSystem(text_of("--system", self.system), maker)
        return Items(maker, asked.call.request, self.id_field, self.keep)

    def writer(self) -> Callable[[TextIO], Writer]:
        """What writes rows, in the output's format."""
        found = self.output_format or ("csv" if format_of(self.out or STREAM) == "csv" else "jsonl")
        if found == "csv":
            return lambda stream: CsvWriter(stream, self.id_field is not None, self.keep)
        return JsonWriter

    def journal_path(self) -> Path | None:
        """Where results are kept; None: nowhere, since nothing was said and the output is a stream."""
        if self.journal is not None:
            return Path(self.journal)
        return None if self.out is None or self.out == STREAM else Path(self.out + JOURNAL)

    def parameters_given(self) -> Mapping[str, Any]:
        """What goes along in each body."""
        if self.parameters is None:
            return {}
        text = text_of("--parameters", self.parameters)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            where = f": {error.msg} at line {error.lineno}, column {error.colno}" if isinstance(
                error, json.JSONDecodeError) else ""
            raise click.UsageError(f"--parameters is no JSON{where}.") from None
        if not isinstance(found, dict):
            raise click.UsageError("--parameters must be an object, such as '{\"temperature\": 0}'.")
        return found


def text_of(option: str, value: str) -> str:
    """The value of an option, or what is in the file that it names as `@FILE`."""
    if not value.startswith(_OF_FILE):
        return value
    path = value.removeprefix(_OF_FILE)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"{option}: {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise click.UsageError(f"{option}: {path} has bytes that are not UTF-8.") from None
