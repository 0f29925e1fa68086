"""The ready call to HuggingFace."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from responses import RequestsMock

from llm_guard.errors import ConfigError
from llm_guard.llm import AnswerError, huggingface, outcome_of
from llm_guard.outcome import Kind, Outcome

MonkeyPatch = pytest.MonkeyPatch
HUB = "https://router.huggingface.co/hf-inference/models/gpt2"
LOCAL = "http://127.0.0.1:8080"
SECRET = "hf_secret"
PROMPT = "what I ask"
ANSWER = [{"generated_text": "Good day"}]


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def http() -> Iterator[RequestsMock]:
    with RequestsMock() as mocked:
        yield mocked


def _body(request: Any) -> Any:
    return json.loads(request.body)


def _sent_with(request: Any) -> Any:
    return request.req_kwargs


def test_it_posts_the_prompt_and_returns_the_text(http: RequestsMock) -> None:
    http.post(HUB, json=ANSWER)
    assert huggingface("gpt2")(PROMPT) == "Good day"
    request = http.calls[0].request
    assert _body(request) == {"inputs": PROMPT}
    assert "Authorization" not in request.headers


def test_parameters_go_along_as_they_were_when_given(http: RequestsMock) -> None:
    http.post(HUB, json=ANSWER)
    parameters: dict[str, Any] = {"max_new_tokens": 5, "stop": ["a"]}
    call = huggingface("gpt2", parameters=parameters)
    parameters["stop"].append("b")
    call(PROMPT)
    body = _body(http.calls[0].request)
    assert body == {"inputs": PROMPT, "parameters": {"max_new_tokens": 5, "stop": ["a"]}}


@pytest.mark.parametrize("base", [LOCAL, LOCAL + "/", LOCAL + "/some/path"])
def test_a_url_is_the_base_of_a_server(http: RequestsMock, base: str) -> None:
    http.post(base.rstrip("/") + "/models/org/some%20model", json=ANSWER)
    assert huggingface("org/some model", url=base)(PROMPT) == "Good day"


def test_the_token_of_the_argument_beats_the_environment(http: RequestsMock, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    http.post(HUB, json=ANSWER)
    huggingface("gpt2", token=SECRET)(PROMPT)
    assert http.calls[0].request.headers["Authorization"] == f"Bearer {SECRET}"


def test_the_token_of_the_environment_is_read_at_each_call(http: RequestsMock, monkeypatch: MonkeyPatch) -> None:
    http.post(HUB, json=ANSWER)
    call = huggingface("gpt2")
    monkeypatch.setenv("HF_TOKEN", "hf_late\n")
    call(PROMPT)
    assert http.calls[0].request.headers["Authorization"] == "Bearer hf_late"


@pytest.mark.parametrize(("base", "sent"), [
    ("https://abc.us-east-1.aws.endpoints.huggingface.cloud", True),
    ("https://huggingface.co/x", True),
    ("http://huggingface.co/x", False),
    ("https://nothuggingface.co", False),
    ("https://huggingface.co.example.org", False),
    (LOCAL, False),
])
def test_the_token_of_the_environment_goes_to_huggingface_alone(
        http: RequestsMock, monkeypatch: MonkeyPatch, base: str, sent: bool) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    http.post(f"{base}/models/gpt2", json=ANSWER)
    huggingface("gpt2", url=base)(PROMPT)
    assert ("Authorization" in http.calls[0].request.headers) is sent


def test_a_netrc_file_does_not_replace_the_token(http: RequestsMock, monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine router.huggingface.co login me password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    http.post(HUB, json=ANSWER)
    huggingface("gpt2", token=SECRET)(PROMPT)
    assert http.calls[0].request.headers["Authorization"] == f"Bearer {SECRET}"


def test_a_cold_model_is_an_error_that_the_guards_can_read(http: RequestsMock) -> None:
    http.post(HUB, status=503, json={"error": "Model gpt2 is currently loading", "estimated_time": 20.0})
    with pytest.raises(requests.HTTPError) as caught:
        huggingface("gpt2")(PROMPT)
    assert outcome_of(caught.value) == Outcome(Kind.LOADING, 20.0)


def test_an_error_under_status_200_is_an_answer_error(http: RequestsMock) -> None:
    http.post(HUB, json={"error": PROMPT})
    with pytest.raises(AnswerError) as caught:
        huggingface("gpt2")(PROMPT)
    assert PROMPT not in str(caught.value)


def _held_by(error: requests.RequestException) -> str:
    """All that an error holds, as far as a log, a pickle or a crash report would follow it."""
    found = [repr(error), str(error), repr(pickle.dumps(error))]
    for holder in (error, error.response, *(error.response.history if error.response is not None else ())):
        request = getattr(holder, "request", None)
        if request is not None:
            found += [repr(request.headers), repr(request.body)]
    return "".join(found)


@pytest.mark.parametrize("fault", [{"status": 401, "json": {"error": "no"}},
                                   {"body": requests.ConnectionError("refused")}])
def test_neither_token_nor_prompt_stays_in_an_error(http: RequestsMock, fault: dict[str, Any]) -> None:
    http.post(HUB, **fault)
    with pytest.raises(requests.RequestException) as caught:
        huggingface("gpt2", token=SECRET)(PROMPT)
    held = _held_by(caught.value)
    assert SECRET not in held
    assert PROMPT not in held


def test_they_do_not_stay_in_an_error_after_a_redirect(http: RequestsMock) -> None:
    http.post(HUB, status=307, headers={"Location": HUB + "-moved"})
    http.post(HUB + "-moved", status=500)
    with pytest.raises(requests.HTTPError) as caught:
        huggingface("gpt2", token=SECRET)(PROMPT)
    assert caught.value.response.history
    held = _held_by(caught.value)
    assert SECRET not in held
    assert PROMPT not in held


@pytest.mark.real
def test_a_refused_connection_is_a_failure_without_token_and_prompt() -> None:
    with pytest.raises(requests.ConnectionError) as caught:
        huggingface("gpt2", url="http://127.0.0.1:9", token=SECRET, timeout=1)(PROMPT)
    held = _held_by(caught.value)
    assert SECRET not in held
    assert PROMPT not in held
    assert outcome_of(caught.value) == Outcome(Kind.FAILURE, answered=False)


# What it is


def test_it_has_a_name_and_a_signature_and_shows_no_token() -> None:
    call = huggingface("org/model", token=SECRET)
    assert repr(call) == call.__name__ == call.__qualname__ == "huggingface('org/model')"
    assert list(inspect.signature(call).parameters) == ["prompt"]


def test_a_wrapper_takes_over_the_name_and_not_the_token() -> None:
    call = huggingface("gpt2", token=SECRET)

    @functools.wraps(call)
    def wrapped(prompt: str) -> str:
        return call(prompt)

    assert wrapped.__qualname__ == "huggingface('gpt2')"
    assert SECRET not in repr({name: value for name, value in vars(wrapped).items() if name != "__wrapped__"})


def test_a_pickled_copy_works_and_leaves_the_token_behind(http: RequestsMock, monkeypatch: MonkeyPatch) -> None:
    pickled = pickle.dumps(huggingface("gpt2", url="https://huggingface.co/x", token=SECRET,
                                       parameters={"top_k": 3}, timeout=(1, 2)))
    assert SECRET.encode() not in pickled
    again = pickle.loads(pickled)
    monkeypatch.setenv("HF_TOKEN", "hf_here")
    http.post("https://huggingface.co/x/models/gpt2", json=ANSWER)
    assert again(PROMPT) == "Good day"
    request = http.calls[0].request
    assert _body(request) == {"inputs": PROMPT, "parameters": {"top_k": 3}}
    assert request.headers["Authorization"] == "Bearer hf_here"
    assert _sent_with(request)["timeout"] == (1.0, 2.0)
    assert repr(again) == "huggingface('gpt2')"


def test_a_copy_in_the_same_process_keeps_its_token() -> None:
    call = huggingface("gpt2", token=SECRET)
    assert copy.copy(call) is call
    assert copy.deepcopy({"call": call})["call"] is call


def test_with_a_session_it_says_that_it_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="session"):
        pickle.dumps(huggingface("gpt2", session=requests.Session()))


# Sessions


def _recorded_sessions(monkeypatch: MonkeyPatch) -> list[requests.Session]:
    used: list[requests.Session] = []
    post = requests.Session.post

    def recording(self: requests.Session, *args: Any, **kwargs: Any) -> requests.Response:
        used.append(self)
        return post(self, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "post", recording)
    return used


def test_each_thread_has_one_session_of_its_own(http: RequestsMock, monkeypatch: MonkeyPatch) -> None:
    http.post(HUB, json=ANSWER)
    used = _recorded_sessions(monkeypatch)
    call = huggingface("gpt2")

    def twice() -> None:
        call(PROMPT)
        call(PROMPT)

    twice()
    thread = threading.Thread(target=twice)
    thread.start()
    thread.join()
    assert used[0] is used[1]
    assert used[2] is used[3]
    assert used[0] is not used[2]
    adapter: Any = used[0].get_adapter(HUB)
    assert adapter.max_retries.total == 0


def test_a_forked_child_makes_a_session_of_its_own(http: RequestsMock, monkeypatch: MonkeyPatch) -> None:
    http.post(HUB, json=ANSWER)
    used = _recorded_sessions(monkeypatch)
    call = huggingface("gpt2")
    call(PROMPT)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    call(PROMPT)
    assert used[0] is not used[1]


def test_a_session_that_is_given_is_used(http: RequestsMock, monkeypatch: MonkeyPatch) -> None:
    http.post(HUB, json=ANSWER)
    used = _recorded_sessions(monkeypatch)
    session = requests.Session()
    huggingface("gpt2", session=session)(PROMPT)
    assert used == [session]


@pytest.mark.parametrize(("given", "sent"), [(None, (10.0, 120.0)), (5, (5.0, 5.0)), ((1, 2.5), (1.0, 2.5))])
def test_no_call_goes_out_without_a_timeout(http: RequestsMock, given: Any, sent: Any) -> None:
    http.post(HUB, json=ANSWER)
    huggingface("gpt2", timeout=given)(PROMPT)
    assert _sent_with(http.calls[0].request)["timeout"] == sent


# Options


@pytest.mark.parametrize("options", [
    {"model": ""}, {"model": " / "}, {"model": None}, {"url": ""}, {"url": "localhost:8080"}, {"url": "ftp://x"},
    {"url": 7}, {"url": "http://"}, {"url": "http://x:port"}, {"url": "http://x?key=1"}, {"url": "http://x#y"},
    {"url": "http://[x"}, {"token": ""}, {"token": 7}, {"token": "two words"}, {"token": "line\n"}, {"token": "ä"},
    {"parameters": 7}, {"parameters": {"x": len}}, {"parameters": {"x": float("nan")}}, {"timeout": 0},
    {"timeout": -1}, {"timeout": True}, {"timeout": "5"}, {"timeout": (1, 2, 3)}, {"timeout": (1, 0)},
], ids=repr)
def test_an_option_that_cannot_work_is_refused_where_it_is_given(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        huggingface(**{"model": "gpt2"} | options)
    assert caught.value.parameter == next(iter(options))


@pytest.mark.parametrize("options", [{"token": SECRET + "\n"}, {"url": f"https://me:{SECRET}@host"},
                                     {"url": f"https://host/?api_key={SECRET}"}, {"url": f"https://me:{SECRET}@host:x"},
                                     {"parameters": {SECRET: object()}}])
def test_a_refusal_shows_no_secret(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        huggingface("gpt2", **options)
    assert SECRET not in f"{caught.value!s}{caught.value!r}{vars(caught.value)}"
