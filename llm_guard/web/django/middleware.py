"""The middleware: each request is a call in progress, and errors of guarded functions become answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from llm_guard import call
from llm_guard.runtime import switch
from llm_guard.web.django import config
from llm_guard.web.problem import problem_of
from llm_guard.web.request import Body, RequestCall, deadline_of


class GuardMiddleware:
    """A request has a deadline, which all that is guarded beneath keeps; a `Rejected` that a view raises is answered
    with 503 and Retry-After, a `CallTimeout` with 504, as problem details or HTML. Middleware that stands below sees
    such an error first, in its `process_exception`.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._settings = config.chosen()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if switch.is_off:
            return self._get_response(request)
        carried = RequestCall(self._settings.deadline)
        response = carried.run(lambda: self._get_response(request))
        if isinstance(response, StreamingHttpResponse) and not response.is_async and not _is_file(response):
            # To HEAD nothing is sent: a server would read the whole stream for nobody.
            body = () if request.method == "HEAD" else response.streaming_content
            response.streaming_content = Body(body, carried)
        else:
            carried.active = False
        return response

    def process_view(self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Gives the request the deadline of its view."""
        carried = call.in_progress()
        if isinstance(carried, RequestCall):
            carried.give(deadline_of(view, request.method))

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer to an error of a view's; None for one that is none of ours."""
        problem = problem_of(error, self._settings)
        if problem is None:
            return None
        body, headers = problem.answer(request.headers.get("Accept"))
        response = HttpResponse(body, status=problem.status, headers=headers)
        if request.method == "HEAD":  # not every server keeps the body back
            response.headers["Content-Length"] = str(len(response.content))
            response.content = b""
        return response


def _is_file(response: StreamingHttpResponse) -> bool:
    """Whether the server may send the file itself."""
    return getattr(response, "file_to_stream", None) is not None
