"""What LLM APIs say and where they put their text; light: requests is imported by the first call that needs it."""

from llm_guard.llm.answers import AnswerError, text_of
from llm_guard.llm.huggingface import huggingface
from llm_guard.llm.signals import outcome_of

__all__ = ["AnswerError", "huggingface", "outcome_of", "text_of"]
