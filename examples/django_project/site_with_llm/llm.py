"""The LLM that the views ask; LLM_URL says where it is."""

from __future__ import annotations

import os
from collections.abc import Iterator

from llm_guard import bounded, ramp_up, retry, stack
from llm_guard.llm import Adapter, Session, stream_text, text_of

URL = os.environ.get("LLM_URL", "http://127.0.0.1:8080")

session = Session()
session.mount("http://", Adapter(pool_maxsize=64))  # its connections are cut at the request's deadline
# One stack for both, so that they share what they know of the server. No user has more than eight calls at once.
guard = stack(ramp_up(), bounded(64, key="user", per_key=8), retry())


@guard
def ask(prompt: str, user: str) -> str:
    response = session.post(URL, json={"inputs": prompt}, timeout=20)
    response.raise_for_status()
    return text_of(response)


@guard
def tell(prompt: str, user: str) -> Iterator[str]:
    body = {"inputs": prompt, "stream": True}
    with session.post(f"{URL}/generate_stream", json=body, stream=True, timeout=20) as response:
        response.raise_for_status()
        yield from stream_text(response)
