"""For each row of the table of signals an error as its provider sends it, and what it means."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import requests

from llm_guard.outcome import Kind

WALL = 1_700_000_000.0  # the time at which these errors come


@dataclass(frozen=True)
class Case:
    """`body` is sent as JSON, or as it is where it is bytes."""

    status: int
    body: Any
    kind: Kind
    hint: float | None = None
    headers: dict[str, str] = field(default_factory=dict)


def reply(status: int, body: Any = b"", headers: Any = ()) -> Any:
    """A response of requests."""
    made: Any = requests.Response()
    made.status_code = status
    made.headers.update(dict(headers))
    made._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    made._content_consumed = True
    return made


def openai(code: str | None, kind: str | None = "requests", message: str = "...") -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str = "...", **details: Any) -> Any:
    return {"type": "error", "error": {"type": kind, "message": message} | details, "request_id": "req_1"}


def google(code: int, status: str, message: str = "...", *details: Any) -> Any:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def llama(code: int, message: str, kind: str) -> Any:
    return {"error": {"code": code, "message": message, "type": kind}}


def tgi(message: str, kind: str) -> Any:
    return {"error": message, "error_type": kind}


def openrouter(code: int, message: str, **metadata: Any) -> Any:
    return {"error": {"message": message, "code": code, "metadata": metadata}, "user_id": "user_1"}


def mistral(message: str, kind: str, code: str | None) -> Any:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code, "raw_status_code": 429}


def aws(name: str) -> dict[str, str]:
    return {"x-amzn-ErrorType": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/", "x-amzn-RequestId": "1"}


def violation(quota: str) -> Any:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests", "quotaId": quota,
        "quotaDimensions": {"location": "global", "model": "gemini-2.0-flash"}, "quotaValue": "15"}]}


HELP = {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"url": "https://ai.google.dev"}]}
DELAY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}
PREDICTION = {"id": "gm3", "model": "meta/llama", "version": "1", "input": {"prompt": "..."}, "logs": "",
              "output": None, "data_removed": False, "error": None, "created_at": "2023-11-14T22:13:20.000Z",
              "urls": {"get": "https://api.replicate.com/v1/predictions/gm3"}}
LOADING, LIMITED, GROWTH, OVERLOAD = Kind.LOADING, Kind.LIMITED, Kind.GROWTH_LIMITED, Kind.OVERLOAD
QUOTA, INVALID, FAILURE, TIMEOUT = Kind.QUOTA, Kind.INVALID, Kind.FAILURE, Kind.TIMEOUT
PAGE_1015 = (b"<!DOCTYPE html>\n<html><head><title>Access denied | api.example.com used Cloudflare to restrict access"
             b"</title></head><body><h1>Error <span>1015</span></h1><h2>You are being rate limited</h2></body></html>")

#: By the name of the row that decides.
CASES: dict[str, list[Case]] = {
    # Quota
    "OpenAI insufficient_quota": [
        Case(429, openai("insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check "
                         "your plan and billing details. Please try again in 20s."), QUOTA),
        Case(429, openai(None, "insufficient_quota"), QUOTA, 5.0, {"Retry-After": "5"}),
        Case(429, openai("insufficient_quota", "insufficient_quota"), QUOTA, None,
             {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8.64s"}),
    ],
    "OpenAI credit_balance_exhausted": [Case(429, openai("credit_balance_exhausted"), QUOTA)],
    "OpenAI *_spend_limit_exceeded": [Case(429, openai("project_spend_limit_exceeded"), QUOTA),
                                      Case(429, openai("organization_spend_limit_exceeded"), QUOTA)],
    "OpenAI organization_usage_limit_exceeded": [Case(429, openai("organization_usage_limit_exceeded"), QUOTA)],
    "OpenAI billing_hard_limit_reached": [
        Case(400, openai("billing_hard_limit_reached", "invalid_request_error", "Billing hard limit has been reached"),
             QUOTA)],
    "OpenAI billing_not_active": [
        Case(429, openai("billing_not_active", "billing_not_active", "Your account is not active, please check your "
                         "billing details on our website."), QUOTA)],
    "Azure out of call volume quota 403": [
        Case(403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 10:07:24."},
             QUOTA)],
    "Anthropic *_spend_limit_reached": [
        Case(429, anthropic("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), QUOTA),
        Case(429, anthropic("rate_limit_error", details={"error_code": "contract_spend_limit_reached"}), QUOTA)],
    "Anthropic *_billing_unavailable": [
        Case(402, anthropic("billing_error", details={"error_code": "linked_organization_billing_unavailable"}),
             QUOTA)],
    "Anthropic billing_error": [Case(402, anthropic("billing_error"), QUOTA), Case(200, anthropic("billing_error"),
                                                                                  QUOTA)],
    "Anthropic credit balance is too low 400": [
        Case(400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API. "
                            "Please go to Plans & Billing to upgrade or purchase credits."), QUOTA)],
    "Anthropic you have reached your specified 400": [
        Case(400, anthropic("invalid_request_error", "You have reached your specified API usage limits. You will "
                            "regain access on 2026-02-01 at 00:00 UTC."), QUOTA)],
    "Ollama usage limit 429": [
        Case(429, {"error": "you (x) have reached your session usage limit, upgrade for higher limits: "
                            "https://ollama.com/upgrade"}, QUOTA),
        Case(429, {"error": "you've reached your hourly usage limit, please wait or upgrade to continue"}, QUOTA)],
    "HF router monthly included credits 402": [
        Case(402, {"error": "You have exceeded your monthly included credits for Inference Providers. Subscribe to PRO "
                   "to get 20x more monthly included credits."}, QUOTA)],
    "Gemini *PerDay*": [
        Case(429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and "
                         "billing details. Please retry in 34.074824224s.",
                         violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
                         violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), HELP, DELAY), QUOTA),
        Case(200, [google(429, "RESOURCE_EXHAUSTED", "...",
                          violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), DELAY)], QUOTA),
        Case(429, google(429, "RESOURCE_EXHAUSTED", "...", {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED",
            "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com",
                                                     "quota_limit": "GenerateContentRequestsPerDayPerProject"}}, DELAY),
             QUOTA)],
    "Bedrock [Ss]erviceQuotaExceededException": [
        Case(400, {"message": "Your request exceeds the service quota for your account."}, QUOTA, None,
             aws("ServiceQuotaExceededException"))],
    "Bedrock too many tokens per day 400 429": [
        Case(429, {"message": "Too many tokens per day, please wait before trying again."}, QUOTA, None,
             aws("ThrottlingException"))],
    "Cohere api calls / month 429": [
        Case(429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month. You can continue "
                   "to use the Trial key for free or upgrade to a Production key with higher rate limits."}, QUOTA,
             None, {"x-ratelimit-reset": str(int(WALL) + 30)})],
    "OpenRouter free-models-per-day 429": [
        Case(429, openrouter(429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model "
                             "requests per day", provider_name=None, headers={
                                 "X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0",
                                 "X-RateLimit-Reset": str(int(WALL + 30_000) * 1000)}), QUOTA)],
    "xAI used all available credits 403 429": [
        Case(429, {"code": "Some resource has been exhausted", "error": "Your team 1 has either used all available "
                   "credits or reached its monthly spending limit. To continue making API requests, please purchase "
                   "more credits or raise your spending limit."}, QUOTA)],

    # No wait helps
    "OpenAI, Groq request too large 413 429": [
        Case(429, openai("rate_limit_exceeded", "tokens", "Request too large for gpt-4o in organization org-1 on "
                         "tokens per min (TPM): Limit 30000, Requested 45000. The input or output tokens must be "
                         "reduced in order to run successfully."), INVALID),
        Case(413, openai("rate_limit_exceeded", "tokens", "Request too large for model `llama-3.3-70b-versatile` in "
                         "organization `org_1` on tokens per minute (TPM): Limit 12000, Requested 14000, please reduce "
                         "your message size and try again."), INVALID, None, {"Retry-After": "10"})],
    "HF please log in 429": [
        Case(429, {"error": "Rate limit reached. Please log in or use your apiToken"}, INVALID, None,
             {"Retry-After": "9"})],
    "HF login to your existing account 429": [
        Case(429, b"We had to rate limit your IP (1.2.3.4). To continue using our service, create a HF account or "
                  b"login to your existing account, and make sure you pass a HF_TOKEN if you're using the API.",
             INVALID)],

    # Growth
    "OpenAI slow_down": [Case(429, openai("slow_down"), GROWTH, 3.0, {"Retry-After": "3"}),
                         Case(503, openai("slow_down"), GROWTH), Case(200, openai("slow_down"), GROWTH)],
    "Anthropic ramp_limit_exceeded": [
        Case(429, anthropic("rate_limit_error", details={"error_code": "ramp_limit_exceeded"}), GROWTH, 11.0,
             {"retry-after": "11"})],
    "Together dynamic_request_limited": [
        Case(429, {"id": "o1", "error": {"message": "...", "type": "dynamic_request_limited", "param": None,
                                         "code": None}}, GROWTH, 4.0, {
                                             "x-ratelimit-limit": "60", "x-ratelimit-remaining": "57",
                                             "x-ratelimit-reset": "4"})],
    "Together dynamic_token_limited": [
        Case(429, {"error": {"message": "..."}, "error_type": "dynamic_token_limited"}, GROWTH, 0.5,
             {"x-ratelimit-reset": "0.5"}),
        Case(429, {"error": {"message": "..."}, "error_type": "dynamic_token_limited"}, GROWTH, 0.5,
             {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "57", "x-ratelimit-reset": "0.5"})],

    # Cold
    "HF estimated_time": [
        Case(503, {"error": "Model gpt2 is currently loading", "estimated_time": 20.0}, LOADING, 20.0),
        Case(503, {"error": "Model gpt2 starts", "estimated_time": 945}, LOADING, 945.0),
        Case(503, {"error": "Model gpt2 is currently loading", "estimated_time": 20.0}, LOADING, 3.0,
             {"Retry-After": "3"}),
        Case(200, [{"error": "Model gpt2 is currently loading", "estimated_time": 20.0}], LOADING, 20.0)],
    "llama.cpp loading model 503": [Case(503, llama(503, "Loading model", "unavailable_error"), LOADING)],
    "HF loading 503": [Case(503, {"error": "Model gpt2 is currently loading"}, LOADING),
                       Case(503, b"Model is loading", LOADING)],
    "HF Endpoints SERVICE_UNAVAILABLE 502 503": [
        Case(503, {"error": "Service Unavailable", "code": "SERVICE_UNAVAILABLE"}, LOADING),
        Case(502, {"error": "Bad Gateway", "code": "SERVICE_UNAVAILABLE"}, LOADING)],
    "SageMaker, Bedrock [Mm]odelNotReadyException": [
        Case(429, {"message": "The model is not ready for inference. Wait and try your request again."}, LOADING, None,
             aws("ModelNotReadyException"))],
    "Replicate starting": [Case(200, PREDICTION | {"status": "starting"}, LOADING),
                           Case(201, PREDICTION | {"status": "starting"}, LOADING)],

    # Overload
    "TGI overloaded": [Case(429, tgi("Model is overloaded", "overloaded"), OVERLOAD),
                       Case(200, tgi("Model is overloaded", "overloaded"), OVERLOAD)],
    "OpenAI server_is_overloaded": [
        Case(503, openai("server_is_overloaded", "service_unavailable_error"), OVERLOAD, 3.0, {"Retry-After": "3"}),
        Case(200, openai("server_is_overloaded", "server_error"), OVERLOAD)],
    "Anthropic overloaded_error": [Case(529, anthropic("overloaded_error", "Overloaded"), OVERLOAD),
                                   Case(200, anthropic("overloaded_error"), OVERLOAD)],
    "Gemini MODEL_CAPACITY_EXHAUSTED": [
        Case(429, google(429, "RESOURCE_EXHAUSTED", "No capacity available for model gemini on the server", {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "MODEL_CAPACITY_EXHAUSTED",
            "domain": "cloudcode-pa.googleapis.com", "metadata": {"model": "gemini"}}, DELAY), OVERLOAD, 34.074824224)],
    "Gemini UNAVAILABLE": [
        Case(503, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), OVERLOAD),
        Case(503, google(503, "UNAVAILABLE", "The service is currently unavailable.", DELAY), OVERLOAD, 34.074824224)],
    "Groq capacity_exceeded": [
        Case(498, openai("capacity_exceeded", "capacity_exceeded", "Flex tier capacity exceeded"), OVERLOAD),
        Case(200, openai("capacity_exceeded"), OVERLOAD)],
    "Mistral 3505 429": [Case(429, mistral("Service tier capacity exceeded for this model.",
                                           "service_tier_capacity_exceeded", "3505"), OVERLOAD)],
    "Mistral capacity exceeded 429": [Case(429, mistral("Service tier capacity exceeded for this model.",
                                                        "invalid_request_error", None), OVERLOAD)],
    "llama.cpp unavailable_error 503": [
        Case(503, llama(503, "no slot available", "unavailable_error"), OVERLOAD),
        Case(200, llama(503, "no slot available", "unavailable_error"), OVERLOAD),
        Case(200, {"error": {"message": "no slot available", "type": "unavailable_error"}}, OVERLOAD)],
    "Ollama server busy 503": [
        Case(503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, OVERLOAD),
        Case(200, {"error": "server busy, please try again.  maximum pending requests exceeded"}, OVERLOAD)],
    "Bedrock [Ss]erviceUnavailable*": [
        Case(503, {"message": "Bedrock is unable to process your request."}, OVERLOAD, None,
             aws("ServiceUnavailableException"))],
    "Azure experiencing high demand 429": [
        Case(429, openai("429", None, "The system is currently experiencing high demand and cannot process your "
                         "request. Your request exceeds the maximum usage size allowed during peak load."), OVERLOAD),
        Case(429, openai("429", None, "The system is currently experiencing high demand. Please retry after 6 "
                         "seconds."), OVERLOAD, 6.0)],

    # Rate
    "OpenAI, Groq rate_limit_exceeded": [
        Case(429, openai("rate_limit_exceeded"), LIMITED, 20.0, {"Retry-After": "20"}),
        Case(429, openai("rate_limit_exceeded"), LIMITED, 1.234, {"retry-after-ms": "1234", "Retry-After": "2"}),
        Case(429, openai("rate_limit_exceeded", "tokens"), LIMITED, 360.0,
             {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}),
        Case(429, openai("rate_limit_exceeded", "requests", "Rate limit reached for gpt-4o in organization org-1 on "
                         "requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 7m12s."),
             LIMITED, 432.0),
        Case(429, openai("rate_limit_exceeded", "tokens", "Rate limit reached for model `llama3-70b` on tokens per "
                         "minute (TPM): Limit 6000, Used 0, Requested ~9000. Please try again in 2m59.56s."), LIMITED,
             7.66, {"retry-after": "7.66", "x-ratelimit-limit-requests": "14400", "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": "2m59.56s"}),
        Case(200, {"object": "response", "status": "failed", "error": {"code": "rate_limit_exceeded",
                                                                       "message": "..."}}, LIMITED)],
    "Azure RateLimitReached": [
        Case(429, openai("RateLimitReached", None, "Rate limit of 1 per 60s exceeded for UserByModelByMinute. Please "
                         "wait 52 seconds before retrying."), LIMITED, 52.0)],
    "Azure please retry after 429": [
        Case(429, openai("429", None, "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version "
                         "2024-02-15-preview have exceeded token rate limit of your current OpenAI S0 pricing tier. "
                         "Please retry after 6 seconds. Please go here: https://aka.ms/oai/quotaincrease"), LIMITED,
             6.0,
             {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"}),
        Case(429, openai("429", None, "... Please retry after 6 seconds."), LIMITED, 5.2,
             {"retry-after-ms": "5200", "Retry-After": "5"}),
        Case(429, openai("429", None, "... Please retry after 86400 seconds."), LIMITED, 86_400.0)],
    "Azure rate limit is exceeded 429": [
        Case(429, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 2 seconds."}, LIMITED, 2.0),
        Case(429, {"statusCode": 429, "message": "Rate limit is exceeded."}, LIMITED, None,
             {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0",
              "x-ratelimit-reset-requests": "60"})],
    "Anthropic rate_limit_error": [
        Case(429, anthropic("rate_limit_error"), LIMITED, 11.0, {"retry-after": "11"}),
        Case(429, anthropic("rate_limit_error"), LIMITED, 60.0,
             {"anthropic-ratelimit-requests-remaining": "7",
              "anthropic-ratelimit-requests-reset": "2023-11-14T23:13:20Z",
              "anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20Z"}),
        Case(200, anthropic("rate_limit_error"), LIMITED)],
    "Gemini RESOURCE_EXHAUSTED": [
        Case(429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and "
                         "billing details.", violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"), HELP,
                         DELAY), LIMITED, 34.074824224),
        Case(429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 21.5s."), LIMITED,
             21.5),
        Case(200, [google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")], LIMITED)],
    "Mistral rate_limited": [
        Case(429, mistral("Rate limit exceeded", "rate_limited", "1300"), LIMITED, None,
             {"x-ratelimit-limit-req-minute": "720", "x-ratelimit-remaining-req-minute": "0"})],
    "Mistral 1300 429": [Case(429, mistral("Rate limit exceeded", "error", "1300"), LIMITED)],
    "Cohere trial key 429": [
        Case(429, {"message": "You are using a Trial key, which is limited to 20 API calls / minute. You can continue "
                   "to use the Trial key for free or upgrade to a Production key with higher rate limits."}, LIMITED,
             30.0, {"x-ratelimit-reset": str(int(WALL) + 30)})],
    "OpenRouter openrouter_in_flight_budget 402": [
        Case(402, openrouter(402, "In-flight spending budget exhausted", error_type="in_flight_budget_exhausted",
                             limit_source="openrouter_in_flight_budget"), LIMITED, 4.0, {"Retry-After": "4"})],
    "Replicate your rate limit resets in 429": [
        Case(429, {"detail": "Request was throttled. Your rate limit resets in ~30s."}, LIMITED, 30.0)],
    "SageMaker, Bedrock *[Tt]hrottl*": [
        Case(429, {"message": "Too many requests, please wait before trying again."}, LIMITED, None,
             aws("ThrottlingException")),
        Case(400, {"__type": "com.amazon.coral.availability#ThrottlingException", "message": "Rate exceeded"}, LIMITED,
             0.25, {"x-amz-retry-after": "250"})],
    "SageMaker, Bedrock [Tt]ooManyRequestsException": [
        Case(429, {"message": "Rate exceeded"}, LIMITED, None, aws("TooManyRequestsException"))],
    "Cloudflare 1015 429": [
        Case(429, {"title": "Error 1015: You are being rate limited", "status": 429, "error_code": 1015,
                   "error_name": "rate_limited", "cloudflare_error": True, "retryable": True, "retry_after": 45},
             LIMITED, 45.0),
        Case(429, {"title": "Error 1015: You are being rate limited", "status": 429, "error_code": 1015}, LIMITED,
             30.0)],
    "Cloudflare error code: 1015 403 429": [
        Case(429, b"error code: 1015", LIMITED, 30.0), Case(403, b"error code: 1015", LIMITED, 30.0),
        Case(429, b"error code: 1015", LIMITED, 12.0, {"Retry-After": "12"})],
    "Cloudflare you are being rate limited 403 429": [
        Case(429, PAGE_1015, LIMITED, 30.0), Case(429, PAGE_1015 + b"<!-- -->" * 2_000, LIMITED, 30.0)],
    "TGI, OpenAI, Gemini overloaded 429 503": [
        Case(429, {"error": "Model is overloaded"}, OVERLOAD),
        Case(429, openai(None, "requests", "The engine is currently overloaded, please try again later"), OVERLOAD),
        Case(503, openai(None, "server_error", "That model is currently overloaded with other requests."), OVERLOAD)],

    # Timeouts and failures
    "Anthropic timeout_error 504": [Case(504, anthropic("timeout_error"), TIMEOUT),
                                    Case(200, anthropic("timeout_error"), TIMEOUT)],
    "Gemini DEADLINE_EXCEEDED": [
        Case(504, google(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."), TIMEOUT)],
    "Bedrock [Mm]odelTimeoutException": [
        Case(408, {"message": "The request took too long to process."}, TIMEOUT, None, aws("ModelTimeoutException"))],
    "TGI generation 424": [
        Case(424, tgi("Request failed during generation: CUDA out of memory", "generation"), FAILURE)],
    "TGI incomplete_generation 500": [Case(500, tgi("Incomplete generation", "incomplete_generation"), FAILURE)],
    "OpenAI, llama.cpp server_error 500": [
        Case(500, openai(None, "server_error"), FAILURE), Case(500, llama(500, "...", "server_error"), FAILURE),
        Case(200, {"object": "response", "status": "failed", "error": {"code": "server_error", "message": "..."}},
             FAILURE)],
    "Anthropic api_error 500": [Case(500, anthropic("api_error", "Internal server error"), FAILURE)],
    "Gemini INTERNAL 500": [Case(500, google(500, "INTERNAL", "An internal error has occurred."), FAILURE)],
    "SageMaker, Bedrock [Mm]odel*Error* 424": [
        Case(424, {"message": "The request failed due to an error while processing the model.",
                   "originalStatusCode": 500}, FAILURE, None, aws("ModelErrorException"))],
    "SageMaker, Bedrock [Ii]nternal* 500": [
        Case(500, {"message": "An internal server error occurred."}, FAILURE, None, aws("InternalServerException"))],

    # Wrong requests
    "TGI validation 422": [
        Case(422, tgi("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048", "validation"),
             INVALID), Case(200, tgi("too long", "validation"), INVALID)],
    "TGI template_error 422": [Case(422, tgi("Template error: ...", "template_error"), INVALID),
                               Case(200, tgi("...", "template_error"), INVALID)],
    "TGI tool_error 422": [Case(422, tgi("Tool error: ...", "tool_error"), INVALID),
                           Case(200, tgi("...", "tool_error"), INVALID)],
    "OpenAI invalid_prompt 400": [
        Case(200, {"object": "response", "status": "failed", "error": {"code": "invalid_prompt", "message": "..."}},
             INVALID)],
    "OpenAI context_length_exceeded 400": [
        Case(400, openai("context_length_exceeded", "invalid_request_error"), INVALID)],
    "OpenAI invalid_api_key 401": [Case(401, openai("invalid_api_key", "invalid_request_error"), INVALID)],
    "OpenAI model_not_found 404": [Case(404, openai("model_not_found", "invalid_request_error"), INVALID)],
    "Azure content_filter 400": [
        Case(400, {"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
                             "management policy.", "type": None, "param": "prompt", "code": "content_filter",
                             "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, INVALID)],
    "OpenAI, Anthropic, llama.cpp invalid_request_error 400": [
        Case(400, anthropic("invalid_request_error", "max_tokens: Field required"), INVALID),
        Case(400, llama(400, "...", "invalid_request_error"), INVALID),
        Case(200, openai(None, "invalid_request_error"), INVALID)],
    "Anthropic request_too_large 413": [Case(413, anthropic("request_too_large"), INVALID)],
    "Anthropic authentication_error 401": [Case(401, anthropic("authentication_error", "invalid x-api-key"), INVALID)],
    "Anthropic permission_error 403": [Case(403, anthropic("permission_error"), INVALID)],
    "Anthropic not_found_error 404": [Case(404, anthropic("not_found_error", "model: claude-9"), INVALID)],
    "Gemini INVALID_ARGUMENT 400": [
        Case(400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), INVALID)],
    "Gemini FAILED_PRECONDITION 400": [
        Case(400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), INVALID)],
    "Gemini PERMISSION_DENIED 403": [Case(403, google(403, "PERMISSION_DENIED"), INVALID)],
    "Bedrock [Vv]alidationException 400 403 404": [
        Case(400, {"message": "The provided model identifier is invalid."}, INVALID, None, aws("ValidationException"))],
    "Bedrock [Aa]ccessDeniedException 400 403 404": [
        Case(403, {"Message": "You don't have access to the model."}, INVALID, None, aws("AccessDeniedException"))],
    "HF Endpoints paused 400": [
        Case(400, {"error": "Bad Request: The endpoint is paused, ask a maintainer to restart it"}, INVALID)],
    "HF Endpoints invalid state 400": [Case(400, {"error": "Bad Request: Invalid state"}, INVALID)],
    "Ollama not found 404": [Case(404, {"error": "model 'llama3' not found"}, INVALID)],
    "llama.cpp exceed_context_size_error 400": [
        Case(400, llama(400, "the request exceeds the available context size", "exceed_context_size_error"), INVALID)],
    "llama.cpp not_supported_error 501": [
        Case(501, llama(501, "This server does not support completions", "not_supported_error"), INVALID)],

    # The status alone
    "HTTP 402": [Case(402, openrouter(402, "Insufficient credits. Add more using openrouter.ai/credits"), QUOTA),
                 Case(402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}, QUOTA),
                 Case(402, openrouter(402, "Insufficient credits"), QUOTA, 9.0, {"Retry-After": "9"})],
    "HTTP 408 409 424 425": [Case(408, b"", FAILURE), Case(409, b"", FAILURE), Case(424, b"", FAILURE),
                             Case(425, b"", FAILURE)],
    "HTTP 429": [
        Case(429, {"error": "Too many requests"}, LIMITED, 55.0,
             {"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}),
        Case(429, {"error": "Too many requests"}, LIMITED, None, {"RateLimit": '"api";r=12;t=55'}),
        Case(429, {"error": "Too many requests"}, LIMITED, 40.0,
             {"RateLimit-Limit": "10", "RateLimit-Remaining": "0", "RateLimit-Reset": "40"}),
        Case(429, openrouter(429, "Rate limit exceeded: free-models-per-min. ", provider_name=None, headers={
            "X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(WALL + 12) * 1000)}), LIMITED, 12.0),
        Case(429, {"detail": "Request was throttled. Expected available in 7 seconds."}, LIMITED, 7.0),
        Case(429, [], LIMITED), Case(429, b"null", LIMITED), Case(429, b"", LIMITED)],
    "Groq 498": [Case(498, b"", OVERLOAD)],
    "HTTP 503": [
        Case(503, {"error": {"message": "At capacity. Please retry in 5 seconds.", "type": None}}, OVERLOAD, 5.0),
        Case(503, {"error": "Service Unavailable"}, OVERLOAD), Case(503, b"", OVERLOAD),
        Case(503, {"error": {"message": "The server is busy", "type": "server_error"}}, OVERLOAD),
        Case(503, {"error": {"message": "Service Unavailable", "type": "service_unavailable"}}, OVERLOAD, 2.0,
             {"x-ratelimit-reset": "2"}),  # Together, out of capacity
        Case(503, b"<html><div class='loading'></div></html>", OVERLOAD)],
    "HF router 504": [Case(504, b"", TIMEOUT),
                      Case(504, b"<html><head><title>504 Gateway Time-out</title></head></html>", TIMEOUT)],
    "Cloudflare 520 521 522 523": [Case(status, b"<html><title>api.example.com | 520: Web server is returning an "
                                                b"unknown error</title></html>", FAILURE)
                                   for status in (520, 521, 522, 523)],
    "Cloudflare 524": [Case(524, b"<html><title>api.example.com | 524: A timeout occurred</title></html>", TIMEOUT)],
    "Anthropic 529": [Case(529, b"", OVERLOAD)],
    "HTTP 400 499": [Case(status, b"", INVALID) for status in (400, 401, 403, 404, 405, 413, 422)]
    + [Case(200, {"error": {"code": 400, "message": "..."}}, INVALID)],
    "HTTP 500 599": [Case(status, b"", FAILURE) for status in (500, 502, 599)]
    + [Case(200, {"error": {"code": 502, "message": "Provider returned error"}}, FAILURE),
       Case(200, {"choices": [{"finish_reason": "error", "message": {"role": "assistant", "content": "Once"},
                               "error": {"code": 502, "message": "Provider disconnected"}}]}, FAILURE)],
}
