"""The commands and their options."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeVar

import click

from llm_guard.cli.exits import Exit, Problem
from llm_guard.cli.inputs import FORMATS
from llm_guard.cli.run import run
from llm_guard.cli.settings import Settings
from llm_guard.cli.target import ENDPOINTS, PROVIDERS

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES: Final = """\b
Exit codes:
  0    every item has an answer
  1    some items have none: their rows have an error
  2    an option cannot work; nothing was sent
  3    stopped early: quota, --failures, no server, all refused
  4    the input cannot be used; nothing was sent
  5    the output or the journal cannot be used
  130  interrupted by Ctrl-C (143: by SIGTERM)

The same command again goes on where it ended: no answer is paid for twice.
Details: docs/command.md"""


def _version() -> str:
    try:
        return version("llm-guard-flow")
    except PackageNotFoundError:
        return "(not installed)"


class _Group(click.Group):
    """Click makes a 1 of Ctrl-C; here it has its own code, from the first option on."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        try:
            return super().make_context(*args, **options)
        except KeyboardInterrupt:
            raise _interrupted() from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _interrupted() from None


def _interrupted() -> Problem:
    return Problem("interrupted", Exit.INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="llm-guard")
def group() -> None:
    """Carries many calls to an LLM API through cold starts, rate limits and overload."""


def _refuse_key(context: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is not None:  # which is not shown
        raise click.UsageError(
            f"There is no {option.opts[0]}: other users see the options of a process, and shells keep them. Put the "
            "key into the environment: " + ", ".join(f"{provider.variable} (--format {name})" for name, provider in
                                                      PROVIDERS.items()) + ", or any name with --key-from.", context)


def _no_key(name: str) -> Callable[[Command], Command]:
    return click.option(name, name.strip("-").replace("-", "_"), hidden=True, expose_value=False, is_flag=False,
                        flag_value="", callback=_refuse_key)


_ABOVE_0: Final = click.FloatRange(min=0, min_open=True)


@group.command("run", epilog=EXIT_CODES)
@click.argument("source", metavar="INPUT")
@click.option("-o", "--out", metavar="FILE", help="Where the answers go: JSONL, or CSV by its name; - for the standard "
              "output, in order as they come.")
@click.option("--url", metavar="URL", help="The base of the server, such as http://127.0.0.1:8080; without it, the own "
              "API of --format.")
@click.option("--format", type=click.Choice(tuple(PROVIDERS)), help="The API that it speaks.  [default: hf]")
@click.option("--model", metavar="NAME", help="The model to ask.")
@click.option("--endpoint", type=click.Choice(sorted({name for names in ENDPOINTS.values() for name in names})),
              help="What to ask it for.  [default: chat; of hf: completion]")
@click.option("--key-from", metavar="VARIABLE", help="The environment variable whose key goes to --url; without it, a "
              "provider's usual one, to that provider's own hosts over https only.")
@click.option("--field", metavar="NAME", help="The field to ask: a text, or a list of messages.  [default: prompt]")
@click.option("--template", metavar="TEXT", help="What to ask instead, with fields in braces: 'Summarise: {text}'; "
              "@FILE reads it from a file.")
@click.option("--system", metavar="TEXT", help="A message of the system for each chat; @FILE reads it from a file.")
@click.option("--parameters", metavar="JSON", help="What goes along in each body: '{\"temperature\": 0}'; @FILE reads "
              "it from a file.")
@click.option("--id-field", metavar="NAME", help="A field that the rows of the output have as their id.")
@click.option("--keep", metavar="NAME", multiple=True, help="A field that goes to the output as it is; may be given "
              "several times.")
@click.option("--input-format", type=click.Choice(FORMATS), help="[default: by the name of INPUT]")
@click.option("--output-format", type=click.Choice(("jsonl", "csv")), help="[default: by the name of FILE]")
@click.option("--keep-going", is_flag=True, help="A line that cannot be used becomes a row with an error, instead of "
              "ending the run before it began (for an input that is no file, always).")
@click.option("--journal", metavar="FILE", help="Where each answer is kept as soon as it is there.  [default: the "
              "output's name and .journal]")
@click.option("-f", "--force", is_flag=True, help="Replace an output that exists.")
@click.option("--workers", type=click.IntRange(min=1), default=32, show_default=True, help="Calls in flight at most.")
@click.option("--ceiling", type=_ABOVE_0, metavar="RATE", help="Calls a second at most.  [default: what the server "
              "bears]")
@click.option("--timeout", type=_ABOVE_0, default=60.0, show_default=True, metavar="SECONDS",
              help="For each attempt, to its last byte.")
@click.option("--attempts", type=click.IntRange(min=1), default=8, show_default=True,
              help="Of each item that fails; refusals do not count.")
@click.option("--max-refusal-wait", type=click.FloatRange(min=0), default=600.0, show_default=True, metavar="SECONDS",
              help="How long an item waits out refusals, and a server that is down.")
@click.option("--server-wait", type=click.FloatRange(min=0), default=30.0, show_default=True, metavar="SECONDS",
              help="How long to wait at the start for a server that cannot be reached.")
@click.option("--failures", type=click.IntRange(min=1), metavar="N", help="Stop after so many items have failed.")
@click.option("--failure-rate", type=click.FloatRange(min=0, max=1, min_open=True), metavar="SHARE",
              help="Stop when so large a share of the items fails, such as 0.5.")
@click.option("--plot", metavar="FILE", help="Draw the run at its end: .svg or .png (extra plot).")
@click.option("-n", "--dry-run", is_flag=True, help="Check all, show the first requests, send nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Tell only what went wrong.")
@_no_key("--key")
@_no_key("--api-key")
@_no_key("--token")
@click.pass_context
def _run(context: click.Context, /, **options: Any) -> None:
    """Asks an LLM API once for each row of INPUT, and writes the answers in the same order.

    INPUT is JSONL (an object a line), CSV or TSV (with a header), or plain text (a prompt a line), known by its name
    or by --input-format; - is the standard input.

    \b
    llm-guard run prompts.jsonl -o answers.jsonl --url http://127.0.0.1:8080 \\
        --model gpt2
    llm-guard run articles.csv -o out.csv --format openai --model gpt-4o-mini \\
        --template "Summarise: {text}" --id-field id
    """
    context.exit(run(Settings(**options)))
