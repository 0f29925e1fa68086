"""The API that is asked: which call is made of `--format`, `--url`, `--model` and the like, and with which key."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import click

from llm_guard.errors import ConfigError
from llm_guard.llm.anthropic import ANTHROPIC, MAX_TOKENS, anthropic
from llm_guard.llm.huggingface import HUGGINGFACE, huggingface
from llm_guard.llm.ollama import OLLAMA, ollama
from llm_guard.llm.openai import OPENAI, openai
from llm_guard.llm.options import base
from llm_guard.llm.ready import ReadyCall
from llm_guard.llm.sending import Provider

#: The names of the formats, with those that their providers have elsewhere.
PROVIDERS: Final[Mapping[str, Provider]] = {"hf": HUGGINGFACE, "openai": OPENAI, "anthropic": ANTHROPIC,
                                            "ollama": OLLAMA}
_MAKERS: Final[Mapping[str, Callable[..., Any]]] = {"hf": huggingface, "openai": openai, "anthropic": anthropic,
                                                    "ollama": ollama}
#: The endpoints of each, the usual one first.
ENDPOINTS: Final[Mapping[str, tuple[str, ...]]] = {"hf": ("completion", "chat"),
                                                   "openai": ("chat", "completion", "responses"),
                                                   "anthropic": ("chat",), "ollama": ("chat", "completion")}
_OPTIONS: Final = {"parameters": "--parameters", "model": "--model", "url": "--url", "key": "--key-from",
                   "token": "--key-from", "endpoint": "--endpoint", "max_tokens": "--parameters"}
_MODELS: Final = "/models/"
_CONNECT: Final = 10.0  # seconds for a connection, at the most


class Target(NamedTuple):
    """What is asked, and how: `key` says in words which one goes along."""

    call: ReadyCall
    format: str
    endpoint: str
    model: str
    key: str


def target(format: str | None, url: str | None, model: str | None, endpoint: str | None, key_from: str | None,
           parameters: Mapping[str, Any], timeout: float) -> Target:
    """The call that the options ask for; click's `UsageError` where they cannot work."""
    if format is None and url is None:
        raise click.UsageError("Where are the prompts to go? Give --url, or --format for its provider's own API.")
    kind = format or "hf"
    try:
        base(url, "")
    except ConfigError as error:
        raise _refused(error) from None
    _check_host(kind, url)
    url, model = _model_in_url(kind, url, model)
    if model is None:
        raise click.UsageError("Which model? Give --model.")
    usual = ENDPOINTS[kind]
    if endpoint is not None and endpoint not in usual:
        raise click.UsageError(f"--endpoint {endpoint} is none of --format {kind}: it has {', '.join(usual)}.")
    given: dict[str, Any] = {"parameters": dict(parameters), "url": url, "timeout": (min(timeout, _CONNECT), timeout)}
    if kind == "anthropic":
        given["max_tokens"] = given["parameters"].pop("max_tokens", MAX_TOKENS)
    else:
        given["endpoint"] = endpoint or usual[0]
    told = "no key"
    if key_from is not None:
        given["token" if kind == "hf" else "key"] = _key_in(key_from)
        told = f"the key in {key_from}"
    else:
        variable = _sent_by_itself(kind, url)
        if variable is not None:
            told = f"the key in {variable}"
    try:
        return Target(_MAKERS[kind](model, **given), kind, endpoint or usual[0], model, told)
    except ConfigError as error:
        raise _refused(error) from None


def _refused(error: ConfigError) -> click.UsageError:
    option = _OPTIONS.get(error.parameter, error.parameter)
    value = f" {error.value!r}" if isinstance(error.value, str | int) and error.value != "..." else ""
    return click.UsageError(f"{option}{value} is not allowed: {error.allowed}.")


def _check_host(kind: str, url: str | None) -> None:
    """A provider's own host speaks as that provider does."""
    host = _host(url)
    for other, provider in PROVIDERS.items():
        if other != kind and f".{host}".endswith(provider.hosts):
            raise click.UsageError(f"--url is a host of {provider.name}: say --format {other}.")


def _model_in_url(kind: str, url: str | None, model: str | None) -> tuple[str | None, str | None]:
    """The address of one model of HuggingFace's form names the model too."""
    if kind != "hf" or url is None or _MODELS not in urlsplit(url).path:
        return url, model
    server, _, named = url.rstrip("/").partition(_MODELS)
    named = unquote(named.removesuffix("/v1/chat/completions"))
    if model is not None and model != named:
        raise click.UsageError(f"--url names the model {named!r}, and --model {model!r}: give the url without "
                               f"{_MODELS}...")
    return server, named


def _key_in(variable: str) -> str:
    if not variable.replace("_", "a").isalnum() or not variable.isascii() or variable != variable.upper():
        # It may be the key itself.
        raise click.UsageError("--key-from takes the name of an environment variable, in capitals, not the key.")
    value = os.environ.get(variable, "").strip()
    if not value:
        raise click.UsageError(f"--key-from: the environment has no {variable}.")
    return value


def _sent_by_itself(kind: str, url: str | None) -> str | None:
    """The variable whose key goes along by itself, to its provider's own host over https; `UsageError` where that host
    wants one and there is none."""
    provider = PROVIDERS[kind]
    server = url or provider.base
    if urlsplit(server).scheme != "https" or not f".{_host(server)}".endswith(provider.hosts):
        return None
    if os.environ.get(provider.variable, "").strip():
        return provider.variable
    if kind == "hf":  # which lets some be asked without
        return None
    raise click.UsageError(f"{_host(server)} wants a key: put it into the environment as {provider.variable}.")


def _host(url: str | None) -> str:
    return urlsplit(url or "").hostname or ""
