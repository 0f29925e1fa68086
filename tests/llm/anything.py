"""Whatever a server may send, for tests that nothing of it breaks."""

from __future__ import annotations

from hypothesis import strategies as st

from llm_guard.outcome import FINAL, Kind, Outcome

MEMBERS = ["error", "code", "type", "message", "details", "status", "estimated_time", "error_type", "retryDelay",
           "metadata", "headers", "violations", "quotaId", "choices", "urls", "output"]
WORDS = ["starting", "429", "RESOURCE_EXHAUSTED", "rate_limit_exceeded", "Please try again in 9s", "failed", "34.07s"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5),
    max_leaves=6)
any_headers = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after-ms", "x-should-retry", "ratelimit", "x-ratelimit-remaining",
                     "x-ratelimit-reset", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
                     "x-amzn-errortype"]),
    st.sampled_from(["0", "5", "2m59.56s", "true", "false", '"a";r=0;t=9']) | st.text(max_size=8), max_size=3)


def assert_sound(found: Outcome | None, status: int) -> None:
    assert found is not None
    assert found.answered
    assert status < 400 or found.kind is not Kind.SUCCESS
    assert found.hint is None or found.kind not in FINAL - {Kind.QUOTA}
    for value in (found.hint, found.remaining, found.reset, found.remaining_tokens, found.reset_tokens):
        assert value is None or 0 <= value < float("inf")
