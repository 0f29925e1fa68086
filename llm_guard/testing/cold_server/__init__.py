"""A real HTTP server on loopback that starts cold, for demonstrations and for tests over real sockets.

It speaks as Hugging Face's inference API does (`POST /models/<model>`) and as OpenAI's chat completions do
(`POST /v1/chat/completions`), answers "echo: <prompt>", and tells at `GET /stats` what it saw, with `?timeline=1`
also when.

    with cold_server("A", speed=5) as server:
        requests.post(server.url + "/models/gpt2", json={"inputs": "hello"})

In a process of its own: `python -m llm_guard.testing.cold_server --scenario A --speed 5` prints its URL and serves
until it is interrupted. For the time of a block:

    with cold_server_process("A", speed=5) as url:
        requests.post(url + "/models/gpt2", json={"inputs": "hello"})
"""

from llm_guard.testing.cold_server.process import cold_server_process
from llm_guard.testing.cold_server.server import ColdServer, cold_server

__all__ = ["ColdServer", "cold_server", "cold_server_process"]
