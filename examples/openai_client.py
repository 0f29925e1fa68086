"""The official `openai` client under the decorators: whole answers and a stream.

    python examples/openai_client.py                                   # against a server of its own that starts cold
    python examples/openai_client.py --url http://127.0.0.1:8080/v1    # against one that speaks as OpenAI does
    python examples/openai_client.py --url https://api.openai.com/v1 --model gpt-4o-mini

It needs `pip install openai`, and a key in OPENAI_API_KEY where the server wants one. The client's own retries are off:
the decorators try again, and two layers of retries multiply.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from openai import OpenAI

from llm_guard import bounded, breaker, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.llm import httpx_client, stream_text
from llm_guard.testing.cold_server import cold_server

PROMPTS = [f"What is {number} squared?" for number in range(20)]


def talk(url: str, model: str) -> None:
    client = OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=0,
                    http_client=httpx_client())  # whose connections are cut with their call
    pace, places = ramp_up(), bounded(16)  # one of each for both functions: they call the same server

    @pace
    @places
    @retry
    @timeout(20)
    @breaker
    def ask(prompt: str) -> str:
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}])
        return answer.choices[0].message.content or ""

    @pace
    @places
    @retry
    @timeout(first_item=20, idle=10)
    @breaker
    def tell(prompt: str) -> Iterator[str]:
        yield from stream_text(client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True))

    for prompt, answer in zip(PROMPTS, map_with_backpressure(ask, PROMPTS), strict=True):
        print(prompt, "->", answer)
    for piece in tell("What is a cold start?"):
        print(piece, end="", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description="Asks a model through the openai client and llm_guard's decorators.")
    parser.add_argument("--url", help="the base of an API (default: a server of its own that starts cold)")
    parser.add_argument("--model", default="my-model")
    chosen = parser.parse_args()
    if chosen.url:
        talk(chosen.url, chosen.model)
    else:
        with cold_server("A5", speed=20) as server:
            talk(server.url + "/v1", chosen.model)


if __name__ == "__main__":
    main()
