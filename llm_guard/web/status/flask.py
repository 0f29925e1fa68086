"""The status page as a blueprint of Flask.

    app.register_blueprint(blueprint(Site(token=...)))       # at /guard/
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from llm_guard.web.status.message import LONGEST
from llm_guard.web.status.site import Site
from llm_guard.web.status.wsgi import request_of

if TYPE_CHECKING:
    from flask import Blueprint
    from flask import Response as FlaskResponse


def blueprint(site: Site, *, name: str = "llm_guard_status", url_prefix: str = "/guard") -> Blueprint:
    """Serves `site` below `url_prefix`. What its `allowed` is given is Flask's request.

    It protects its forms itself: where Flask-WTF's CSRFProtect is used, exempt this blueprint from that.
    """
    try:
        from flask import Blueprint, make_response, request
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("this needs Flask: pip install 'llm-guard-flow[flask]'") from missing
    room = Blueprint(name, __name__, url_prefix=url_prefix)

    @room.route("", defaults={"rest": None}, methods=["GET"], strict_slashes=True)
    @room.route("/", defaults={"rest": ""}, methods=["GET"])
    @room.route("/<path:rest>", methods=["GET", "POST"])
    def status(rest: str | None) -> FlaskResponse:
        path = "" if rest is None else f"/{rest}"
        root = quote(request.script_root + request.path.removesuffix(path))
        body = request.stream.read(LONGEST + 1)  # not all of it: a body in chunks may have no end
        if not body:  # somebody read it before
            body = request.get_data() or urlencode(request.form.to_dict()).encode()
        asked = request_of(request.environ, root=root, path=path, body=body, native=request._get_current_object())  # type: ignore[attr-defined]
        answer = site.respond(asked)
        response = make_response(answer.body, answer.status)
        del response.headers["Content-Type"]
        for header, value in answer.headers:
            response.headers.add(header, value)
        return response

    return room
