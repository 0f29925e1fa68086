"""The door of the process: one line for all guarded functions, so that shared policies are passed together or not at
all."""

from __future__ import annotations

from llm_guard.state.line import Line

door = Line()
