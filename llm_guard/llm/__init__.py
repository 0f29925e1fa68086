"""What LLM APIs say and where they put their text; light: HTTP libraries are imported by the first use of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_guard.llm.answers import text_of
from llm_guard.llm.anthropic import anthropic
from llm_guard.llm.errors import AnswerError, StreamError
from llm_guard.llm.huggingface import huggingface
from llm_guard.llm.ollama import ollama
from llm_guard.llm.openai import openai
from llm_guard.llm.signals import outcome_of
from llm_guard.llm.streams import TextStream, stream_text
from llm_guard.llm.text import Text
from llm_guard.llm.transport import httpx_client, httpx_transport
from llm_guard.llm.usage import Usage, usage_of

if TYPE_CHECKING:
    from llm_guard.llm.request_errors import RequestCancelled, RequestTimeout
    from llm_guard.llm.session import Adapter, Session

__all__ = ["Adapter", "AnswerError", "RequestCancelled", "RequestTimeout", "Session", "StreamError", "Text",
           "TextStream", "Usage", "anthropic", "httpx_client", "httpx_transport", "huggingface", "ollama", "openai",
           "outcome_of", "stream_text", "text_of", "usage_of"]

#: What needs a library to be there, and where it is: imported when it is first asked for.
_LATE = {"Adapter": "session", "RequestCancelled": "request_errors", "RequestTimeout": "request_errors",
         "Session": "session"}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
