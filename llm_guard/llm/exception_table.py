"""How the exceptions of HTTP libraries and API clients end an attempt of which no answer says more.

Classes stand by the root of their module and their name, so that none of the libraries is imported.
"""

from __future__ import annotations

from typing import Final

from llm_guard.outcome import FAILURE, TIMEOUT, Kind, Outcome

#: Responses of HTTP libraries. Those of web frameworks have a status and headers too, but are nobody's answer.
RESPONSES: Final = frozenset({
    "requests.Response", "httpx.Response", "httpx2.Response", "urllib3.BaseHTTPResponse", "urllib3.HTTPResponse",
    "urllib.HTTPError", "http.HTTPResponse", "botocore.AWSResponse",
})
#: What a client returns that holds its response as `http_response`, by `with_raw_response`.
RAW_RESPONSES: Final = frozenset({"openai.LegacyAPIResponse", "openai.BaseAPIResponse", "anthropic.BaseAPIResponse"})
#: What a client returns that may have failed, by its `status` and `error`.
PARSED: Final = frozenset({"openai.Response"})
#: Clients whose errors carry a status, headers and a body of their own, under one name or another.
CLIENTS: Final = frozenset({
    "anthropic", "cerebras", "cohere", "google", "groq", "huggingface_hub", "litellm", "mistralai", "ollama", "openai",
    "replicate", "together",
})

_ANSWERED: Final = Outcome(Kind.FAILURE)  # the server answered with something that cannot be used
_OVERLOAD: Final = Outcome(Kind.OVERLOAD)
_WRONG: Final = Outcome(Kind.INVALID, answered=False)  # refused on this side, before anything was sent
_REFUSED: Final = Outcome(Kind.INVALID)  # the server said why, and will again

_HTTPX: Final = {
    "DecodingError": _ANSWERED, "TooManyRedirects": _ANSWERED, "TimeoutException": TIMEOUT, "InvalidURL": _WRONG,
    "UnsupportedProtocol": _WRONG, "HTTPError": FAILURE,
}
_HTTPCORE: Final = {
    "TimeoutException": TIMEOUT, "UnsupportedProtocol": _WRONG, "NetworkError": FAILURE, "ProtocolError": FAILURE,
}
#: Clients made by one generator, whose errors have the same names.
_GENERATED: Final = {
    "APITimeoutError": TIMEOUT, "APIConnectionError": FAILURE, "APIResponseValidationError": _ANSWERED,
    "APIError": _ANSWERED, "LengthFinishReasonError": _REFUSED, "ContentFilterFinishReasonError": _REFUSED,
}

#: Of an exception's classes the nearest one that stands here decides.
EXCEPTIONS: Final[dict[str, Outcome]] = {
    "builtins.TimeoutError": TIMEOUT, "builtins.ConnectionError": FAILURE, "socket.gaierror": FAILURE,
    "ssl.SSLError": FAILURE, "json.JSONDecodeError": _ANSWERED, "simplejson.JSONDecodeError": _ANSWERED,
    "http.InvalidURL": _WRONG, "http.HTTPException": FAILURE, "urllib.URLError": FAILURE,

    "requests.JSONDecodeError": _ANSWERED, "requests.ContentDecodingError": _ANSWERED,
    "requests.ConnectTimeout": TIMEOUT, "requests.Timeout": TIMEOUT,
    "requests.InvalidJSONError": _WRONG, "requests.InvalidURL": _WRONG, "requests.InvalidSchema": _WRONG,
    "requests.MissingSchema": _WRONG, "requests.URLRequired": _WRONG, "requests.InvalidHeader": _WRONG,
    "requests.RequestException": FAILURE,

    "urllib3.DecodeError": _ANSWERED, "urllib3.TimeoutError": TIMEOUT, "urllib3.LocationValueError": _WRONG,
    "urllib3.NewConnectionError": FAILURE, "urllib3.HTTPError": FAILURE,

    **{f"{root}.{name}": end for root in ("httpx", "httpx2") for name, end in _HTTPX.items()},
    **{f"{root}.{name}": end for root in ("httpcore", "httpcore2") for name, end in _HTTPCORE.items()},

    **{f"{root}.{name}": end for root in ("openai", "anthropic", "groq", "together", "cerebras")
       for name, end in _GENERATED.items()},
    # Raised bare for what is missing or wrong in the set-up; what may pass stands apart.
    "openai.OpenAIError": _WRONG, "anthropic.AnthropicError": _WRONG, "groq.GroqError": _WRONG,
    "openai.SubjectTokenProviderError": FAILURE, "openai.WebSocketConnectionClosedError": FAILURE,
    "openai.WebSocketQueueFullError": FAILURE, "anthropic.RetryableError": FAILURE,

    # Text generation's own errors come in a stream, without a response.
    "huggingface_hub.InferenceTimeoutError": TIMEOUT, "huggingface_hub.OverloadedError": _OVERLOAD,
    "huggingface_hub.ValidationError": _REFUSED, "huggingface_hub.TextGenerationError": _ANSWERED,
    "huggingface_hub.OfflineModeIsEnabled": _WRONG, "huggingface_hub.LocalTokenNotFoundError": _WRONG,

    # Most of botocore's are about its configuration.
    "botocore.BotoCoreError": _WRONG, "botocore.HTTPClientError": FAILURE, "botocore.ConnectionError": FAILURE,
    "botocore.ReadTimeoutError": TIMEOUT, "botocore.ConnectTimeoutError": TIMEOUT,
    "botocore.IncompleteReadError": FAILURE, "botocore.ChecksumError": FAILURE, "botocore.ParserError": _ANSWERED,
    "botocore.ResponseParserError": _ANSWERED, "botocore.MetadataRetrievalError": FAILURE,
    "botocore.CredentialRetrievalError": FAILURE, "botocore.TokenRetrievalError": FAILURE,
    "botocore.CapacityNotAvailableError": FAILURE, "botocore.ClientError": _ANSWERED,

    "ollama.RequestError": _WRONG, "replicate.ModelError": _ANSWERED,
}
