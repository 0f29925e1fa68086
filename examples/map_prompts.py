"""Prompts in, one a line; answers out as JSON lines, in the same order.

    python examples/map_prompts.py my/model prompts.txt --url http://127.0.0.1:8080 > answers.jsonl
    cat prompts.txt | python examples/map_prompts.py my/model > answers.jsonl

Without --url it asks Hugging Face, with the token in HF_TOKEN. A prompt that could not be answered gets the type of its
error in place of an answer, and the status is then 1.
"""

from __future__ import annotations

import argparse
import fileinput
import json
import sys

from llm_guard import bounded, breaker, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.llm import huggingface


def main() -> int:
    parser = argparse.ArgumentParser(description="Sends prompts, one a line, and prints the answers as JSON lines.")
    parser.add_argument("model")
    parser.add_argument("prompts", nargs="?", default="-", help="a file (default: standard input)")
    parser.add_argument("--url", help="the base of a server (default: Hugging Face's inference API)")
    chosen = parser.parse_args()

    call = huggingface(chosen.model, url=chosen.url)

    @ramp_up
    @bounded(32)
    @retry
    @timeout(20)
    @breaker
    def ask(prompt: str) -> str:
        return call(prompt)

    failed = 0
    with fileinput.input(chosen.prompts, encoding="utf-8") as lines:
        prompts = (line.rstrip("\n") for line in lines)
        for result in map_with_backpressure(ask, prompts, on_error="return", results=True):
            found = {"prompt": result.input}
            if result.error is None:
                found["answer"] = str(result.value)
            else:
                found["error"] = type(result.error).__name__
                failed += 1
            print(json.dumps(found), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
