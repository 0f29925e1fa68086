"""Django: put "llm_guard.web.django" into INSTALLED_APPS and `MIDDLEWARE` into settings.MIDDLEWARE, high up.

The setting LLM_GUARD is a dict with what `llm_guard.web.settings` knows: `LLM_GUARD = {"DEADLINE": 60}`. Django's
system checks look at it, at the middleware and at the views.
"""

from __future__ import annotations

try:
    import django as _django  # noqa: F401
except ImportError as missing:
    raise ImportError("llm_guard.web.django needs Django: pip install 'llm-guard-flow[django]'") from missing

from llm_guard.web.django.events import server_sent_events
from llm_guard.web.request import request_deadline
from llm_guard.web.sse import event

__all__ = ["MIDDLEWARE", "event", "request_deadline", "server_sent_events"]

#: What settings.MIDDLEWARE has to name.
MIDDLEWARE = "llm_guard.web.django.middleware.GuardMiddleware"
