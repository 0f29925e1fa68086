"""What the real clients raise, and return, for answers that a transport without a network gives them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import botocore.awsrequest
import botocore.config
import botocore.exceptions
import botocore.session
import httpx
import httpx2
import huggingface_hub
import huggingface_hub.errors
import openai
import pytest
from anything import any_headers, assert_sound, json_values
from hypothesis import given
from hypothesis import strategies as st
from look_alikes import look_alike
from signal_cases import HELP, PREDICTION, google, tgi, violation
from signal_cases import anthropic as anthropic_body
from signal_cases import openai as openai_body

from llm_guard.llm import outcome_of
from llm_guard.outcome import FAILURE, SUCCESS, TIMEOUT, Kind, Outcome

ANSWERED = Outcome(Kind.FAILURE)
WRONG = Outcome(Kind.INVALID, answered=False)
SSE = {"Content-Type": "text/event-stream"}
CHAT = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "gpt", "choices": [
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Good day"}}]}


def error_of(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


def transport(library: Any, status: int, body: Any, headers: dict[str, str] | None = None) -> Any:
    """Gives each request this answer; `body` may be an exception's class, which is raised."""
    def answer(request: Any) -> Any:
        if isinstance(body, type):
            raise body("...", request=request)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return library.Response(status, headers={"Content-Type": "application/json"} | (headers or {}), content=content)

    return library.MockTransport(answer)


# httpx and its successor


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


def get(library: Any, *answer: Any) -> Any:
    with library.Client(transport=transport(library, *answer)) as client:
        return client.get("http://api.example/")


def test_a_response_of_httpx_and_the_error_that_it_raises_say_the_same(library: Any) -> None:
    response = get(library, 429, openai_body("slow_down"), {"Retry-After": "3", "x-ratelimit-remaining-requests": "7"})
    expected = Outcome(Kind.GROWTH_LIMITED, 3.0, remaining=7)
    assert outcome_of(response) == outcome_of(error_of(response.raise_for_status)) == expected


def test_a_good_response_of_httpx_is_a_success(library: Any) -> None:
    assert outcome_of(get(library, 200, CHAT)) is SUCCESS
    assert outcome_of(get(library, 200, PREDICTION | {"status": "starting"})) == Outcome(Kind.LOADING)
    assert outcome_of(library.Response(200, json=PREDICTION | {"status": "starting"})) == Outcome(Kind.LOADING)


@pytest.mark.parametrize(("name", "expected"), [
    ("ConnectTimeout", TIMEOUT), ("ReadTimeout", TIMEOUT), ("WriteTimeout", TIMEOUT), ("PoolTimeout", TIMEOUT),
    ("ConnectError", FAILURE), ("ReadError", FAILURE), ("RemoteProtocolError", FAILURE), ("ProxyError", FAILURE),
    ("UnsupportedProtocol", WRONG), ("DecodingError", ANSWERED), ("TooManyRedirects", ANSWERED)])
def test_an_error_of_httpx_says_what_broke(library: Any, name: str, expected: Outcome) -> None:
    assert outcome_of(error_of(lambda: get(library, 200, getattr(library, name)))) == expected


def test_httpx_s_own_refusals_are_wrong_requests(library: Any) -> None:
    assert outcome_of(error_of(lambda: library.get("ftp://api.example/"))) == WRONG
    assert outcome_of(error_of(lambda: library.get("http://api.example:port/"))) == WRONG


def test_a_stream_of_httpx_stays_unread(library: Any) -> None:
    body = json.dumps({"error": "Model is loading"}).encode()
    streaming = library.MockTransport(lambda request: library.Response(503, content=iter([body])))
    with library.Client(transport=streaming) as client, client.stream("GET", "http://api.example/") as response:
        assert outcome_of(response) == Outcome(Kind.OVERLOAD)
        assert not response.is_stream_consumed
        response.read()
        assert outcome_of(response) == Outcome(Kind.LOADING)


# openai


def openai_client(library: Any, *answer: Any) -> Any:
    return openai.OpenAI(api_key="key", base_url="http://api.example/v1", max_retries=0,
                         http_client=library.Client(transport=transport(library, *answer)))


def chat(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "Hello"}], **options)


@pytest.mark.parametrize(("answer", "expected"), [
    ((429, openai_body("rate_limit_exceeded"), {"retry-after-ms": "1500"}), Outcome(Kind.LIMITED, 1.5)),
    ((429, openai_body("insufficient_quota", "insufficient_quota")), Outcome(Kind.QUOTA)),
    ((429, openai_body("slow_down"), {"x-should-retry": "false"}), Outcome(Kind.INVALID)),
    ((503, openai_body("server_is_overloaded", "server_error")), Outcome(Kind.OVERLOAD)),
    ((400, openai_body("context_length_exceeded", "invalid_request_error")), Outcome(Kind.INVALID)),
    ((401, openai_body("invalid_api_key", "invalid_request_error")), Outcome(Kind.INVALID)),
    ((409, {}), ANSWERED), ((500, b"Internal Server Error"), ANSWERED),
    ((502, b"<html>Bad Gateway</html>"), ANSWERED), ((524, b"<html></html>"), Outcome(Kind.TIMEOUT)),
    ((503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}), Outcome(Kind.LOADING)),
    ((429, [google(429, "RESOURCE_EXHAUSTED", "...", violation("GenerateRequestsPerDayPerProject"), HELP)]),
     Outcome(Kind.QUOTA)),
])
def test_an_error_of_openai_s_client_is_read_by_its_response(library: Any, answer: Any, expected: Outcome) -> None:
    assert outcome_of(error_of(lambda: chat(openai_client(library, *answer)))) == expected


def test_the_limits_are_told_by_openai_s_errors_and_by_its_raw_responses(library: Any) -> None:
    headers = {"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
               "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"}
    left = {"remaining": 59, "reset": 1, "remaining_tokens": 149_984, "reset_tokens": 360}
    assert outcome_of(error_of(lambda: chat(openai_client(library, 500, {}, headers)))) == Outcome(
        Kind.FAILURE, **left)
    raw = chat(openai_client(library, 200, CHAT, headers).with_raw_response)
    assert outcome_of(raw) == Outcome(Kind.SUCCESS, **left)
    assert outcome_of(raw.parse()) is None


@pytest.mark.parametrize(("raised", "expected"), [("ReadTimeout", TIMEOUT), ("ConnectError", FAILURE),
                                                  ("UnsupportedProtocol", WRONG)])
def test_openai_s_client_without_an_answer(library: Any, raised: str, expected: Outcome) -> None:
    client = openai_client(library, 200, getattr(library, raised))
    assert outcome_of(error_of(lambda: chat(client))) == expected


@pytest.mark.parametrize(("error", "expected"), [
    (openai_body("server_is_overloaded", "server_error"), Outcome(Kind.OVERLOAD)),
    (openai_body("rate_limit_exceeded", "tokens", "Please try again in 20s."), Outcome(Kind.LIMITED, 20.0)),
    (openai_body("insufficient_quota", "insufficient_quota"), Outcome(Kind.QUOTA)),
    (openai_body(None, "invalid_request_error"), Outcome(Kind.INVALID)),
    (openai_body(None, "server_error"), ANSWERED),
    ({"error": {"code": 429, "message": "Provider returned error"}}, Outcome(Kind.LIMITED)),
    ({"error": "Model is overloaded", "error_type": "overloaded"}, Outcome(Kind.OVERLOAD)),  # of it the text is kept
])
def test_an_error_in_openai_s_stream_has_a_body_alone(library: Any, error: Any, expected: Outcome) -> None:
    body = f"data: {json.dumps({'choices': []})}\n\ndata: {json.dumps(error)}\n\ndata: [DONE]\n\n".encode()
    raised = error_of(lambda: list(chat(openai_client(library, 200, body, SSE), stream=True)))
    assert type(raised) is openai.APIError
    assert outcome_of(raised) == expected


def test_an_answer_of_openai_s_responses_that_failed() -> None:
    def answered(status: str, error: Any) -> Any:
        return openai_client(httpx2, 200, {
            "id": "resp_1", "object": "response", "created_at": 0, "model": "gpt", "status": status, "error": error,
            "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}).responses.create(
                model="gpt", input="Hello")

    assert outcome_of(answered("failed", {"code": "rate_limit_exceeded", "message": "..."})) == Outcome(Kind.LIMITED)
    assert outcome_of(answered("failed", {"code": "invalid_prompt", "message": "..."})) == Outcome(Kind.INVALID)
    assert outcome_of(answered("failed", None)) == ANSWERED
    assert outcome_of(answered("completed", None)) is None


def test_what_the_client_has_read_counts_where_the_response_kept_nothing() -> None:
    response = httpx2.Response(429, headers={"Retry-After": "3"}, content=iter([b""]),
                               request=httpx2.Request("POST", "http://api.example/"))
    body = openai_body("slow_down")["error"]
    assert outcome_of(openai.RateLimitError("...", response=response, body=body)) == Outcome(Kind.GROWTH_LIMITED, 3.0)
    assert outcome_of(openai.RateLimitError("...", response=response, body=None)) == Outcome(Kind.LIMITED, 3.0)


def test_what_openai_s_client_raises_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert outcome_of(error_of(openai.OpenAI)) == WRONG
    assert outcome_of(openai.ContentFilterFinishReasonError()) == Outcome(Kind.INVALID)
    broken = openai.APIResponseValidationError(get(httpx2, 200, b"{"), None)
    assert outcome_of(broken) == ANSWERED


# anthropic


def anthropic_client(*answer: Any) -> Any:
    return anthropic.Anthropic(api_key="key", base_url="http://api.example", max_retries=0,
                               http_client=httpx2.Client(transport=transport(httpx2, *answer)))


def message(client: Any, **options: Any) -> Any:
    return client.messages.create(model="claude", max_tokens=9, messages=[{"role": "user", "content": "Hello"}],
                                  **options)


@pytest.mark.parametrize(("answer", "expected"), [
    ((429, anthropic_body("rate_limit_error"), {"retry-after": "11"}), Outcome(Kind.LIMITED, 11.0)),
    ((429, anthropic_body("rate_limit_error", details={"error_code": "ramp_limit_exceeded"}), {"retry-after": "11"}),
     Outcome(Kind.GROWTH_LIMITED, 11.0)),
    ((429, anthropic_body("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})),
     Outcome(Kind.QUOTA)),
    ((402, anthropic_body("billing_error")), Outcome(Kind.QUOTA)),
    ((413, anthropic_body("request_too_large")), Outcome(Kind.INVALID)),
    ((529, anthropic_body("overloaded_error")), Outcome(Kind.OVERLOAD)),
    ((529, anthropic_body("overloaded_error"), {"x-should-retry": "false"}), Outcome(Kind.INVALID)),
    ((500, anthropic_body("api_error")), ANSWERED), ((504, anthropic_body("timeout_error")), Outcome(Kind.TIMEOUT)),
    ((200, httpx2.ReadTimeout), TIMEOUT), ((200, httpx2.ReadError), FAILURE),
])
def test_an_error_of_anthropic_s_client(answer: Any, expected: Outcome) -> None:
    assert outcome_of(error_of(lambda: message(anthropic_client(*answer)))) == expected


@pytest.mark.parametrize(("error", "expected"), [
    (anthropic_body("overloaded_error", "Overloaded"), Kind.OVERLOAD),
    (anthropic_body("rate_limit_error"), Kind.LIMITED), (anthropic_body("api_error"), Kind.FAILURE),
    (anthropic_body("timeout_error"), Kind.TIMEOUT), (anthropic_body("invalid_request_error"), Kind.INVALID),
])
def test_an_error_in_anthropic_s_stream_comes_after_a_200(error: Any, expected: Kind) -> None:
    body = f"event: ping\ndata: {{}}\n\nevent: error\ndata: {json.dumps(error)}\n\n".encode()
    headers = SSE | {"anthropic-ratelimit-requests-remaining": "4"}
    raised: Any = error_of(lambda: list(message(anthropic_client(200, body, headers), stream=True)))
    assert raised.status_code == 200
    assert outcome_of(raised) == Outcome(expected, remaining=4)


# huggingface_hub


@pytest.fixture
def hub() -> Iterator[Callable[..., Any]]:
    def client(*answer: Any) -> Any:
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=transport(httpx2, *answer)))
        return huggingface_hub.InferenceClient(model="http://api.example/models/gpt2", token="hf_x")

    yield client
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


@pytest.mark.parametrize(("answer", "expected"), [
    ((503, {"error": "Model gpt2 is currently loading", "estimated_time": 20.0}), Outcome(Kind.LOADING, 20.0)),
    ((503, {"error": "Service Unavailable", "code": "SERVICE_UNAVAILABLE"}), Outcome(Kind.LOADING)),
    ((429, {"error": "Too many requests"}, {"RateLimit": '"api";r=0;t=55'}),
     Outcome(Kind.LIMITED, 55.0, remaining=0, reset=55)),
    ((402, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
     Outcome(Kind.QUOTA)),
    ((400, {"error": "Bad Request: Invalid state"}), Outcome(Kind.INVALID)),
    ((504, b""), Outcome(Kind.TIMEOUT)), ((401, b""), Outcome(Kind.INVALID)),
    ((200, httpx2.ReadTimeout), TIMEOUT), ((200, httpx2.ConnectError), FAILURE),
    # Read again by the client, and raised without the response.
    ((429, tgi("Model is overloaded", "overloaded"), {"Retry-After": "2"}), Outcome(Kind.OVERLOAD, 2.0)),
    ((422, tgi("too long", "validation")), Outcome(Kind.INVALID)),
    ((424, tgi("CUDA out of memory", "generation")), ANSWERED),
    ((500, tgi("Incomplete generation", "incomplete_generation")), ANSWERED),
])
def test_an_error_of_hugging_face_s_client(hub: Callable[..., Any], answer: Any, expected: Outcome) -> None:
    client = hub(*answer)
    assert outcome_of(error_of(lambda: client.text_generation("Hello"))) == expected


@pytest.mark.parametrize(("error", "expected"), [
    (tgi("Model is overloaded", "overloaded"), Outcome(Kind.OVERLOAD)), (tgi("...", "validation"),
                                                                        Outcome(Kind.INVALID)),
    (tgi("...", "generation"), ANSWERED), (tgi("...", "what is this"), ANSWERED)])
def test_an_error_in_hugging_face_s_stream(hub: Callable[..., Any], error: Any, expected: Outcome) -> None:
    client = hub(200, f"data:{json.dumps(error)}\n\n".encode(), SSE)
    raised = error_of(lambda: list(client.text_generation("Hello", stream=True)))
    assert isinstance(raised, huggingface_hub.errors.TextGenerationError)
    assert outcome_of(raised) == expected


def test_hugging_face_s_offline_mode_is_no_server_s_fault() -> None:
    assert outcome_of(huggingface_hub.errors.OfflineModeIsEnabled()) == WRONG


# botocore


class _Raw:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def aws(service: str, endpoint: str = "http://127.0.0.1:9") -> Any:
    session = botocore.session.Session()
    return session.create_client(
        service, region_name="eu-west-1", aws_access_key_id="key", aws_secret_access_key="secret",
        endpoint_url=endpoint, config=botocore.config.Config(retries={"total_max_attempts": 1}, connect_timeout=1,
                                                             read_timeout=0.05))


def converse(client: Any) -> Any:
    return client.converse(modelId="m", messages=[{"role": "user", "content": [{"text": "Hello"}]}])


def answering(service: str, status: int, body: Any, **headers: str) -> Any:
    client = aws(service)
    raw = _Raw(json.dumps(body).encode())
    client.meta.events.register(f"before-send.{service}", lambda request, **_: botocore.awsrequest.AWSResponse(
        request.url, status, {"Content-Type": "application/json"} | headers, raw))
    return client


@pytest.mark.parametrize(("status", "code", "expected"), [
    (429, "ModelNotReadyException", Kind.LOADING), (429, "ThrottlingException", Kind.LIMITED),
    (400, "ServiceQuotaExceededException", Kind.QUOTA), (503, "ServiceUnavailableException", Kind.OVERLOAD),
    (408, "ModelTimeoutException", Kind.TIMEOUT), (424, "ModelErrorException", Kind.FAILURE),
    (500, "InternalServerException", Kind.FAILURE), (400, "ValidationException", Kind.INVALID),
    (403, "AccessDeniedException", Kind.INVALID), (404, "ResourceNotFoundException", Kind.INVALID)])
def test_an_error_of_bedrock_is_read_by_its_code(status: int, code: str, expected: Kind) -> None:
    client = answering("bedrock-runtime", status, {"message": "..."},
                       **{"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/"})
    raised = error_of(lambda: converse(client))
    assert isinstance(raised, botocore.exceptions.ClientError)
    assert outcome_of(raised) == Outcome(expected)


def test_the_headers_of_an_error_of_aws_are_read_too() -> None:
    client = answering("bedrock-runtime", 429, {"message": "..."}, **{"x-amzn-ErrorType": "ThrottlingException",
                                                                      "x-amz-retry-after": "250"})
    assert outcome_of(error_of(lambda: converse(client))) == Outcome(Kind.LIMITED, 0.25)


@pytest.mark.parametrize(("told", "expected"), [
    ({"OriginalStatusCode": 429, "OriginalMessage": json.dumps(tgi("Model is overloaded", "overloaded"))},
     Kind.OVERLOAD),
    ({"OriginalStatusCode": 400, "OriginalMessage": "bad"}, Kind.INVALID), ({"OriginalMessage": "?"}, Kind.FAILURE)])
def test_a_container_s_own_error_shows_through_sagemaker(told: Any, expected: Kind) -> None:
    client = answering("sagemaker-runtime", 424, {"Message": "Received server error"} | told,
                       **{"x-amzn-ErrorType": "ModelError"})
    raised = error_of(lambda: client.invoke_endpoint(EndpointName="e", Body=b"{}"))
    assert outcome_of(raised) == Outcome(expected)


def test_an_error_in_a_stream_of_bedrock_has_a_code_alone() -> None:
    told = {"Error": {"Code": "throttlingException", "Message": "Too many requests"}}
    assert outcome_of(botocore.exceptions.EventStreamError(told, "ConverseStream")) == Outcome(Kind.LIMITED)
    told = {"Error": {"Code": "modelStreamErrorException", "Message": "..."}}
    assert outcome_of(botocore.exceptions.EventStreamError(told, "ConverseStream")) == Outcome(Kind.FAILURE)
    assert outcome_of(botocore.exceptions.ClientError({}, "Converse")) == Outcome(Kind.FAILURE)


@pytest.mark.real
def test_botocore_without_an_answer() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    with silent:
        raised = error_of(lambda: converse(aws("bedrock-runtime", url)))
        assert isinstance(raised, botocore.exceptions.ReadTimeoutError)
        assert outcome_of(raised) == TIMEOUT
    raised = error_of(lambda: converse(aws("bedrock-runtime", url)))
    assert isinstance(raised, botocore.exceptions.EndpointConnectionError)
    assert outcome_of(raised) == FAILURE


@pytest.mark.parametrize(("error", "expected"), [
    (botocore.exceptions.ConnectTimeoutError(endpoint_url="x", error="x"), TIMEOUT),
    (botocore.exceptions.ConnectionClosedError(endpoint_url="x", error="x"), FAILURE),
    (botocore.exceptions.SSLError(endpoint_url="x", error="x"), FAILURE),
    (botocore.exceptions.ProxyConnectionError(proxy_url="x", error="x"), FAILURE),
    (botocore.exceptions.ResponseStreamingError(error="x"), FAILURE),
    (botocore.exceptions.NoCredentialsError(), WRONG), (botocore.exceptions.NoRegionError(), WRONG),
    (botocore.exceptions.ParamValidationError(report="x"), WRONG),
    (botocore.exceptions.CredentialRetrievalError(provider="x", error_msg="x"), FAILURE),
], ids=lambda value: type(value).__name__)
def test_an_error_of_botocore_s_own(error: Any, expected: Outcome) -> None:
    assert outcome_of(error) == expected


# Clients that the tests do without, by the members that their errors have


@pytest.mark.parametrize(("module", "name", "members", "expected"), [
    ("ollama._types", "ResponseError", {"status_code": 503, "error": "server busy, please try again."},
     Outcome(Kind.OVERLOAD)),
    ("ollama._types", "ResponseError", {"status_code": 404, "error": "model 'x' not found"}, Outcome(Kind.INVALID)),
    ("cohere.core.api_error", "ApiError", {"status_code": 429, "headers": {"Retry-After": "4"}, "body": {
        "message": "You are using a Trial key, which is limited to 20 API calls / minute."}},
     Outcome(Kind.LIMITED, 4.0)),
    ("mistralai.models.sdkerror", "SDKError", {"status_code": 429, "body": json.dumps(
        {"object": "error", "message": "Service tier capacity exceeded for this model.", "code": "3505"})},
     Outcome(Kind.OVERLOAD)),
    ("replicate.exceptions", "ReplicateError", {"status": 429, "detail": "Your rate limit resets in ~30s."},
     Outcome(Kind.LIMITED, 30.0)),
    ("google.genai.errors", "ClientError", {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": google(
        429, "RESOURCE_EXHAUSTED", "...", violation("GenerateRequestsPerDayPerProjectPerModel"))}, Outcome(Kind.QUOTA)),
    ("google.api_core.exceptions", "ServiceUnavailable", {"code": 503}, Outcome(Kind.OVERLOAD)),
    ("together.error", "RateLimitError", {"http_status": 429, "json_body": {
        "error": {"type": "dynamic_token_limited"}}, "headers": {"x-ratelimit-reset": "4"}},
     Outcome(Kind.GROWTH_LIMITED, 4.0)),
    ("groq", "APIStatusError", {"status_code": 498, "body": {"error": {"code": "capacity_exceeded"}}},
     Outcome(Kind.OVERLOAD)),
    ("litellm.exceptions", "RateLimitError", {"status_code": 429}, Outcome(Kind.LIMITED)),
    ("mine.web", "HTTPException", {"status_code": 503, "detail": "..."}, None),
    ("ollama._types", "ResponseError", {"status_code": -1, "error": "CUDA error"}, ANSWERED),
    ("ollama._types", "ResponseError", {"status_code": -1, "error": ""}, None),
])
def test_an_error_of_a_client_is_read_by_its_members(module: str, name: str, members: Any, expected: Any) -> None:
    error = look_alike(module, name, Exception)()
    vars(error).update(members)
    assert outcome_of(error) == expected


@pytest.mark.fuzz
@given(st.integers(-1, 999), json_values, any_headers)
def test_whatever_members_a_client_s_error_has_it_is_read(status: int, body: Any, headers: dict[str, str]) -> None:
    error = look_alike("cohere.core.api_error", "ApiError", Exception)()
    vars(error).update(status_code=status, body=body, headers=headers)
    found = outcome_of(error)
    if 400 <= status < 600:
        assert_sound(found, status)
    told = {"Error": body, "OriginalMessage": body, "ResponseMetadata": {"HTTPStatusCode": status,
                                                                         "HTTPHeaders": headers}}
    aws_error = look_alike("botocore.exceptions", "ClientError", Exception)()
    aws_error.response = told
    assert_sound(outcome_of(aws_error), 400)
