"""A stream as Django's response."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.http import StreamingHttpResponse

from llm_guard.web import sse
from llm_guard.web.django import config


def server_sent_events(stream: Iterable[Any], *,
                       encode: Callable[[Any], str | bytes] = sse.encoded) -> StreamingHttpResponse:
    """A response that sends the items of `stream` as server-sent events, one each, and closes it when all are sent or
    the client is gone; until then the stream holds what it holds.

    The first item is asked for here: what it raises is the view's own error. See `llm_guard.web.sse.Events`. It is for
    WSGI: under ASGI Django would read it to its end before it sent anything.
    """
    return StreamingHttpResponse(sse.Events(stream, config.chosen(), encode), headers=sse.HEADERS)
