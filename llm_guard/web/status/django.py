"""The status page as URLs of Django.

    urlpatterns = [path("guard/", include(urls(Site(allowed=lambda request: request.user.is_staff))))]
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from llm_guard.web.status.message import LONGEST, Request
from llm_guard.web.status.site import Site

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern


def urls(site: Site) -> list[URLPattern]:
    """What `include` takes. What the site's `allowed` is given is Django's request.

    Django's own check of forms is passed by, as the site has its own, and so is its LoginRequiredMiddleware: the site
    says who may look, and probes of a cluster have no login.
    """
    try:
        from django.http import HttpResponse, RawPostDataException
        from django.urls import re_path
        from django.views.decorators.csrf import csrf_exempt
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("this needs Django: pip install 'llm-guard-flow[django]'") from missing

    def read(request: HttpRequest) -> bytes:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if length.isascii() and length.isdigit() and int(length[:18]) > LONGEST:
            return bytes(LONGEST + 1)
        try:
            return request.body
        except RawPostDataException:  # somebody read the form before
            return urlencode(request.POST.dict()).encode()

    @csrf_exempt
    def status(request: HttpRequest, rest: str) -> HttpResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        root = quote(request.path.removesuffix(rest).removesuffix("/"))
        answer = site.respond(Request(
            request.method or "GET", f"/{rest}", root, headers, request.META.get("QUERY_STRING", ""), read(request),
            request.get_host(), request.is_secure(), request))
        response = HttpResponse(b"" if request.method == "HEAD" else answer.body, status=answer.status)
        del response.headers["Content-Type"]
        if answer.status not in (204, 304):
            response.headers["Content-Length"] = str(len(answer.body))
        for name, value in answer.headers:
            if name != "Set-Cookie":
                response.headers[name] = value
            else:
                response.cookies.load(value)
        return response

    status.login_required = False  # type: ignore[attr-defined]  # as login_not_required does, which Django 4.2 has not
    return [re_path(r"^(?P<rest>.*)$", status, name="llm_guard_status")]
