"""What LLM APIs say and where they put their text; light: requests is imported by the first call that needs it."""

from llm_guard.llm.answers import text_of
from llm_guard.llm.anthropic import anthropic
from llm_guard.llm.errors import AnswerError, StreamError
from llm_guard.llm.huggingface import huggingface
from llm_guard.llm.ollama import ollama
from llm_guard.llm.openai import openai
from llm_guard.llm.signals import outcome_of
from llm_guard.llm.streams import TextStream, stream_text
from llm_guard.llm.text import Text
from llm_guard.llm.usage import Usage, usage_of

__all__ = ["AnswerError", "StreamError", "Text", "TextStream", "Usage", "anthropic", "huggingface", "ollama", "openai",
           "outcome_of", "stream_text", "text_of", "usage_of"]
