"""The views: a function, and a class."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.views import View

from llm_guard.web.django import request_deadline, server_sent_events
from site_with_llm import llm


def whole(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"answer": llm.ask(request.GET["q"], user(request))})


class Stream(View):
    @request_deadline(60)
    def get(self, request: HttpRequest) -> StreamingHttpResponse:
        return server_sent_events(llm.tell(request.GET["q"], user(request)))


def user(request: HttpRequest) -> str:
    return request.headers.get("X-User", request.META["REMOTE_ADDR"])


urlpatterns = [path("ask", whole), path("stream", Stream.as_view()),
               path("guard/", include("llm_guard.web.django.status"))]
