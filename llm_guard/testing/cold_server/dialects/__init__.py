"""The dialects in which the server is spoken to, and which of them a path belongs to."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from llm_guard.testing.cold_server.dialects.anthropic import Anthropic, Messages
from llm_guard.testing.cold_server.dialects.base import BadRequest, Dialect, Question, Reply
from llm_guard.testing.cold_server.dialects.huggingface import HuggingFace, Tasks
from llm_guard.testing.cold_server.dialects.ollama import Ollama, OllamaChat, OllamaGenerate
from llm_guard.testing.cold_server.dialects.openai import Chat, Completions, OpenAI
from llm_guard.testing.cold_server.dialects.responses import Responses
from llm_guard.testing.cold_server.dialects.tgi import TGI, Generate

__all__ = ["APIS", "BadRequest", "Dialect", "Question", "Reply", "dialect_of"]

_MODELS = "/models/"
_CHAT = "/v1/chat/completions"
_COMPLETIONS = "/v1/completions"
#: The paths of each API that have no name of a model in them. Where all are spoken, the first that has a path counts.
APIS: Final[dict[str, dict[str, Dialect]]] = {
    "openai": {_CHAT: Dialect(Chat(), OpenAI()), _COMPLETIONS: Dialect(Completions(), OpenAI()),
               "/v1/responses": Dialect(Responses(), OpenAI())},
    "anthropic": {"/v1/messages": Dialect(Messages(), Anthropic())},
    "ollama": {"/api/chat": Dialect(OllamaChat(), Ollama()), "/api/generate": Dialect(OllamaGenerate(), Ollama())},
    "tgi": {"/generate": Dialect(Generate(streams=False), TGI()), "/generate_stream": Dialect(Generate(True), TGI()),
            "/": Dialect(Generate(None), TGI()), _CHAT: Dialect(Chat(), TGI()),
            _COMPLETIONS: Dialect(Completions(), TGI())},
    "huggingface": {_CHAT: Dialect(Chat(), HuggingFace()), "/": Dialect(Generate(None), HuggingFace())},
}


def dialect_of(path: str, api: str | None, mixed_shapes: bool) -> Dialect | None:
    """The dialect that is spoken at a path, None where nothing is; `api` is the only one spoken, or None for all."""
    if api in (None, "huggingface") and path.startswith(_MODELS):
        model = path.removeprefix(_MODELS)
        if model.endswith(_CHAT) and len(model) > len(_CHAT):
            return Dialect(Chat(), HuggingFace())
        return Dialect(Tasks(unquote(model), mixed_shapes), HuggingFace()) if model else None
    spoken = APIS.values() if api is None else [APIS[api]]
    return next((paths[path] for paths in spoken if path in paths), None)
