"""A real HTTP server on loopback that starts cold, for demonstrations and for tests over real sockets.

It answers "echo: <prompt>", at once or as a stream, in the dialects of

- HuggingFace's inference API: `POST /models/<model>` and `/models/<model>/v1/chat/completions`,
- OpenAI: `/v1/chat/completions`, `/v1/completions`, `/v1/responses`,
- Anthropic: `/v1/messages`,
- Ollama: `/api/chat`, `/api/generate`,
- text-generation-inference: `/generate`, `/generate_stream`, `/`,

and tells at `GET /stats` what it saw, with `?timeline=1` also when. Refusals, errors and what an account has left are
worded as each provider does; `api="huggingface"` or `"tgi"` has chats at `/v1/chat/completions` in their words.

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
