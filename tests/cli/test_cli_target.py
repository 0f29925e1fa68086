"""Which call is made of the options, and with which key."""

from __future__ import annotations

from typing import Any

import click
import pytest

from llm_guard.cli.target import PROVIDERS, Target, target

URL = "http://127.0.0.1:8080"
KEY = "sk-do-not-tell"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in PROVIDERS.values():
        monkeypatch.delenv(provider.variable, raising=False)


def _target(**options: Any) -> Target:
    given = {"format": None, "url": URL, "model": "m", "endpoint": None, "key_from": None, "parameters": {},
             "timeout": 5.0}
    return target(**{**given, **options})


@pytest.mark.parametrize(("options", "url", "body"), [
    ({}, "/models/m", {"inputs": "p"}),
    ({"url": f"{URL}/models/a/b", "model": None}, "/models/a/b", {"inputs": "p"}),
    ({"endpoint": "chat"}, "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "p"}]}),
    ({"format": "openai"}, "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "p"}]}),
    ({"format": "openai", "endpoint": "completion", "parameters": {"max_tokens": 3}}, "/v1/completions",
     {"model": "m", "prompt": "p", "max_tokens": 3}),
    ({"format": "anthropic", "parameters": {"max_tokens": 3}}, "/v1/messages",
     {"model": "m", "messages": [{"role": "user", "content": "p"}], "max_tokens": 3}),
    ({"format": "ollama", "endpoint": "completion"}, "/api/generate", {"model": "m", "prompt": "p", "stream": False}),
], ids=["hf", "hf with its model in the url", "hf chat", "openai", "openai completion", "anthropic", "ollama"])
def test_each_format_asks_in_its_own_words(options: dict[str, Any], url: str, body: dict[str, Any]) -> None:
    request = _target(**options).call.request("p")
    assert (request.url, request.body) == (URL + url, body)
    assert not {"Authorization", "x-api-key"} & set(request.headers)


@pytest.mark.parametrize(("options", "says"), [
    ({"url": None}, "Give --url, or --format"), ({"model": None}, "Give --model"),
    ({"format": "anthropic", "endpoint": "completion"}, "--endpoint completion is none of --format anthropic"),
    ({"url": "https://api.openai.com/v1"}, "--format openai"),
    ({"url": f"http://me:{KEY}@127.0.0.1"}, "without a user"), ({"url": "ftp://host"}, "--url 'ftp://host' is not"),
    ({"url": f"{URL}?key={KEY}"}, "a query"), ({"url": "http://[::1"}, "--url is not allowed"),
    ({"url": f"{URL}/models/a"}, "--url names the model 'a', and --model 'm'"),
    ({"key_from": KEY}, "the name of an environment variable"), ({"key_from": "MISSING_KEY"}, "no MISSING_KEY"),
    ({"parameters": {"inputs": 1, "stream": True}, "endpoint": "chat"}, "--parameters"),
    ({"format": "anthropic", "parameters": {"max_tokens": 0}}, "--parameters"),
    ({"format": "openai", "url": None}, "OPENAI_API_KEY"), ({"format": "anthropic", "url": None}, "ANTHROPIC_API_KEY")])
def test_options_that_cannot_work_are_refused_without_telling_a_secret(options: dict[str, Any], says: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        _target(**options)
    assert says in raised.value.message
    assert KEY not in raised.value.message


def test_a_key_goes_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    found = _target(format="openai", key_from="MY_KEY")
    assert "Authorization" in found.call.request("p").headers
    assert found.key == "the key in MY_KEY"
    assert KEY not in repr(found)


def test_a_providers_key_goes_to_its_own_host_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    own, other = _target(format="openai", url=None), _target(format="openai")
    assert (own.key, other.key) == ("the key in OPENAI_API_KEY", "no key")
    assert "Authorization" in own.call.request("p").headers
    assert "Authorization" not in other.call.request("p").headers


def test_a_key_that_no_header_can_hold_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY} ü")
    with pytest.raises(click.UsageError, match="--key-from is not allowed") as raised:
        _target(key_from="MY_KEY")
    assert KEY not in raised.value.message
