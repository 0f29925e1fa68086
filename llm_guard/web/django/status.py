"""The status page as the settings have it: `path("guard/", include("llm_guard.web.django.status"))` in urlpatterns.

There is nothing under it until LLM_GUARD has STATUS_TOKEN, or STATUS_ALLOWED (`lambda request: request.user.is_staff`,
or its dotted name). For more than that, mount a `Site` of your own: see `llm_guard.web.status`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings as project

from llm_guard.web.django import config
from llm_guard.web.settings import Settings
from llm_guard.web.status import Site
from llm_guard.web.status.django import urls

if TYPE_CHECKING:
    from django.urls import URLPattern


def _of(chosen: Settings) -> list[URLPattern]:
    if not chosen.has_status:
        return []
    return urls(Site(chosen.status_token, allowed=chosen.status_allowed, secret=project.SECRET_KEY,
                     actions=chosen.status_actions))


urlpatterns = _of(config.chosen())
