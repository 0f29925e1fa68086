"""A function on requests, as many have one, under the decorators.

    python examples/decorate_requests.py                          # against a server of its own that starts cold
    python examples/decorate_requests.py http://127.0.0.1:8080    # against one that speaks as OpenAI does

All that llm_guard asks of the function: it raises for a refusal (`raise_for_status`), or returns the response itself.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

import requests

from llm_guard import bounded, breaker, ramp_up, retry, timeout
from llm_guard.testing.cold_server import cold_server


@ramp_up
@bounded(8)
@retry
@timeout(20)
@breaker
def ask(url: str, prompt: str) -> str:
    message = {"role": "user", "content": prompt}
    response = requests.post(f"{url}/v1/chat/completions", json={"model": "my-model", "messages": [message]},
                             timeout=20)
    response.raise_for_status()
    answer: str = response.json()["choices"][0]["message"]["content"]
    return answer


def main() -> None:
    given = sys.argv[1:]
    with nullcontext() if given else cold_server("A5", speed=20) as server:
        url = server.url if server else given[0]
        for prompt in ("What is a cold start?", "What is backpressure?"):
            print(prompt, "->", ask(url, prompt))


if __name__ == "__main__":
    main()
