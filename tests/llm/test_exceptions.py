"""What the exceptions of HTTP libraries say of the server; of the clients': `test_clients`."""

from __future__ import annotations

import http.client
import importlib
import json
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import requests
import urllib3
from look_alikes import look_alike
from requests.adapters import HTTPAdapter
from requests.exceptions import HTTPError
from signal_cases import reply
from urllib3.util.retry import Retry

from llm_guard.errors import CallTimeout, Saturated
from llm_guard.llm import AnswerError, outcome_of
from llm_guard.llm.exception_table import EXCEPTIONS, PARSED, RAW_RESPONSES, RESPONSES
from llm_guard.llm.reply import kin
from llm_guard.outcome import FAILURE, TIMEOUT, Kind, Outcome

ANSWERED = Outcome(Kind.FAILURE, answered=True)
WRONG = Outcome(Kind.INVALID, answered=False)
POOL: Any = None
HEADERS: Any = {"Retry-After": "5"}


def read_timeout() -> Exception:
    return urllib3.exceptions.ReadTimeoutError(POOL, "/x", "Read timed out.")


@pytest.mark.parametrize(("error", "expected"), [
    (requests.ConnectionError(), FAILURE),
    (requests.exceptions.SSLError(), FAILURE),
    (requests.exceptions.ProxyError(), FAILURE),
    (requests.exceptions.ChunkedEncodingError(), FAILURE),
    (requests.exceptions.ChunkedEncodingError(urllib3.exceptions.ProtocolError("cut off")), FAILURE),
    (requests.RequestException(), FAILURE),
    (HTTPError("no response"), FAILURE),
    (requests.ConnectTimeout(), TIMEOUT),
    (requests.ReadTimeout(), TIMEOUT),
    (requests.Timeout(), TIMEOUT),
    (requests.ConnectionError(read_timeout()), TIMEOUT),
    (requests.ConnectionError(urllib3.exceptions.MaxRetryError(POOL, "/x", OSError())), FAILURE),
    (requests.JSONDecodeError("Expecting value", "<html>", 0), ANSWERED),
    (requests.exceptions.ContentDecodingError(), ANSWERED),
    (requests.exceptions.InvalidURL(), WRONG),
    (requests.exceptions.MissingSchema(), WRONG),
    (requests.exceptions.InvalidJSONError(), WRONG),
    (requests.exceptions.TooManyRedirects(response=reply(302)), ANSWERED),
    (HTTPError("raised by hand", response=reply(200)), ANSWERED),
    (requests.exceptions.RetryError(urllib3.exceptions.MaxRetryError(
        POOL, "/x", urllib3.exceptions.ResponseError("too many 429 error responses"))), Outcome(Kind.LIMITED)),
    (urllib3.exceptions.ProtocolError(), FAILURE),
    (urllib3.exceptions.NewConnectionError(POOL, "refused"), FAILURE),
    (urllib3.exceptions.ConnectTimeoutError(), TIMEOUT),
    (read_timeout(), TIMEOUT),
    (urllib3.exceptions.MaxRetryError(POOL, "/x", read_timeout()), TIMEOUT),
    (urllib3.exceptions.DecodeError(), ANSWERED),
    (urllib3.exceptions.LocationParseError("x"), WRONG),
    (ConnectionError(), FAILURE),
    (ConnectionResetError(104, "reset"), FAILURE),
    (BrokenPipeError(), FAILURE),
    (TimeoutError(), TIMEOUT),
    (socket.gaierror(-2, "unknown"), FAILURE),
    (ssl.SSLEOFError(), FAILURE),
    (http.client.IncompleteRead(b""), FAILURE),
    (http.client.RemoteDisconnected(""), FAILURE),
    (http.client.BadStatusLine("x"), FAILURE),
    (urllib.error.URLError(TimeoutError()), TIMEOUT),
    (urllib.error.URLError(ConnectionRefusedError()), FAILURE),
    (urllib.error.HTTPError("http://x", 429, "", HEADERS, None), Outcome(Kind.LIMITED, 5.0)),
    (json.JSONDecodeError("Expecting value", "<html>", 0), ANSWERED),
    (look_alike("httpx", "ReadTimeout", look_alike("httpx", "TimeoutException", Exception))(), TIMEOUT),
    (look_alike("httpx", "ConnectError", look_alike("httpx", "HTTPError", Exception))(), FAILURE),
    (look_alike("openai", "APITimeoutError", look_alike("openai", "APIConnectionError", Exception))(), TIMEOUT),
    (look_alike("anthropic", "APIConnectionError", Exception)(), FAILURE),
    (CallTimeout("...", seconds=1.0), TIMEOUT),
    (AnswerError("dict with keys error"), ANSWERED),
], ids=lambda value: repr(value)[:60])
def test_an_exception_of_an_http_library_says_what_broke(error: Any, expected: Outcome) -> None:
    assert outcome_of(error) == expected


@pytest.mark.parametrize("error", [
    TypeError(), NameError(), AttributeError(), AssertionError(), NotImplementedError(), ImportError(), ValueError(),
    KeyError(), RuntimeError(), FileNotFoundError(), Exception(), KeyboardInterrupt(), GeneratorExit(), SystemExit(),
    UnicodeDecodeError("utf-8", b"", 0, 1, "x"), Saturated("...", policy="bounded"),
    TypeError(requests.ConnectionError()),
], ids=repr)
def test_an_exception_that_it_does_not_know_is_left_to_others(error: Any) -> None:
    assert outcome_of(error) is None


def test_a_pickled_error_says_the_same() -> None:
    error = HTTPError("...", response=reply(503, {"error": "loading", "estimated_time": 20.0}))
    assert outcome_of(pickle.loads(pickle.dumps(error))) == outcome_of(error) == Outcome(Kind.LOADING, 20.0)


def test_an_exception_that_wraps_itself_is_read_all_the_same() -> None:
    looped = requests.ConnectionError()
    looped.args = (looped,)
    assert outcome_of(looped) == FAILURE
    looped.__cause__ = looped
    assert outcome_of(looped) == FAILURE


def test_the_cause_that_an_exception_names_knows_better() -> None:
    wrapped = look_alike("openai", "APIConnectionError", Exception)()
    wrapped.__cause__ = look_alike("httpx2", "UnsupportedProtocol", Exception)()
    assert outcome_of(wrapped) == WRONG
    unknown = ValueError()
    unknown.__cause__ = requests.Timeout()
    assert outcome_of(unknown) is None


#: Where the libraries of the tests define what the tables name.
MODULES = {
    "builtins": ["builtins"], "socket": ["socket"], "ssl": ["ssl"], "json": ["json"],
    "http": ["http.client"], "urllib": ["urllib.error"], "requests": ["requests.exceptions", "requests"],
    "urllib3": ["urllib3.exceptions", "urllib3.response"], "httpx": ["httpx"], "httpx2": ["httpx2"],
    "httpcore": ["httpcore"], "httpcore2": ["httpcore2"],
    "openai": ["openai", "openai._exceptions", "openai.types.responses", "openai._legacy_response", "openai._response"],
    "anthropic": ["anthropic", "anthropic._exceptions", "anthropic._response"],
    "huggingface_hub": ["huggingface_hub.errors"],
    "botocore": ["botocore.exceptions", "botocore.eventstream", "botocore.parsers", "botocore.awsrequest"],
}
#: The tests do without these; their classes are as their pages and sources have them.
ABSENT = {"simplejson", "groq", "together", "cerebras", "ollama", "replicate"}
#: Of a generated client, that another such client has alone.
ELSEWHERE = {"anthropic.LengthFinishReasonError", "anthropic.ContentFilterFinishReasonError"}


NAMES = EXCEPTIONS.keys() | RESPONSES | RAW_RESPONSES | PARSED


@pytest.mark.parametrize("name", sorted(name for name in NAMES - ELSEWHERE if name.partition(".")[0] not in ABSENT))
def test_each_class_of_the_tables_is_there_in_its_library(name: str) -> None:
    root, _, last = name.partition(".")
    found = [getattr(module, last) for module in map(importlib.import_module, MODULES[root]) if hasattr(module, last)]
    assert any(name in kin(each) for each in found)


def test_the_tables_name_no_other_library() -> None:
    assert {name.partition(".")[0] for name in NAMES} == MODULES.keys() | ABSENT


# The real libraries against real sockets


def _serve(reply_with: bytes) -> tuple[str, socket.socket]:
    """A server that gives every connection these bytes, and closes it."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(reply_with)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}/", listening


def _error_of(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


@pytest.mark.real
def test_real_faults_of_a_connection() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    with silent:
        url = f"http://127.0.0.1:{port}/"
        assert outcome_of(_error_of(lambda: requests.get(url, timeout=0.05))) == TIMEOUT
        assert outcome_of(_error_of(lambda: urllib.request.urlopen(url, timeout=0.05))) == TIMEOUT
    assert outcome_of(_error_of(lambda: requests.get(url, timeout=1))) == FAILURE
    assert outcome_of(_error_of(lambda: urllib.request.urlopen(url, timeout=1))) == FAILURE


@pytest.mark.real
@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
                                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf"])
def test_a_real_answer_that_is_cut_off_is_a_failure(cut: bytes) -> None:
    url, server = _serve(cut)
    with server:
        assert outcome_of(_error_of(lambda: requests.get(url, timeout=2))) == FAILURE


@pytest.mark.real
def test_what_urllib3_s_own_retries_leave_of_a_503_is_still_an_overload() -> None:
    url, server = _serve(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    with server, requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(1, status_forcelist=[503], backoff_factor=0)))
        assert outcome_of(_error_of(lambda: session.get(url, timeout=2))) == Outcome(Kind.OVERLOAD)
        assert outcome_of(_error_of(lambda: urllib.request.urlopen(url, timeout=2))) == Outcome(Kind.OVERLOAD)


@pytest.mark.real
def test_importing_the_package_does_not_import_requests() -> None:
    code = ("import sys, llm_guard.llm as llm; llm.outcome_of(ConnectionError()); llm.text_of('x'); "
            "llm.huggingface('gpt2'); "
            "sys.exit(bool({'requests', 'urllib3', 'httpx'} & {name.partition('.')[0] for name in sys.modules}))")
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
