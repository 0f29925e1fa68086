"""Flask: `Guard(app)` answers for the guarded functions that views are, or call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llm_guard import call
from llm_guard.errors import CallTimeout, ConfigError, GuardError, Rejected
from llm_guard.runtime import switch
from llm_guard.web import settings, sse
from llm_guard.web.problem import Problem, problem_of
from llm_guard.web.request import Body, RequestCall, deadline_of, request_deadline
from llm_guard.web.settings import Settings
from llm_guard.web.sse import event
from llm_guard.web.status import Site
from llm_guard.web.status.flask import blueprint

try:
    from flask import Flask, Response, current_app, request
    from werkzeug.exceptions import HTTPException, default_exceptions
except ImportError as missing:
    raise ImportError("llm_guard.web.flask needs Flask: pip install 'llm-guard-flow[flask]'") from missing

__all__ = ["Guard", "event", "request_deadline", "server_sent_events"]

#: What the names of all settings in an app's config begin with.
PREFIX = "LLM_GUARD_"
_EXTENSION = "llm_guard"


class Guard:
    """The extension: `Guard(app)`, or `guard.init_app(app)`, once the app's config is there.

    A request has a deadline, which all that is guarded beneath keeps; a `Rejected` that reaches the app is answered
    with 503 and Retry-After, a `CallTimeout` with 504, as problem details or HTML. The app's own error handlers go
    first. Settings: `app.config["LLM_GUARD_DEADLINE"]` and so on, see `llm_guard.web.settings`. The status page is at
    `/guard/` where LLM_GUARD_STATUS_TOKEN or LLM_GUARD_STATUS_ALLOWED says who may see it.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Sets it up for `app`. Raises `ConfigError` for a setting that cannot work."""
        if _EXTENSION in app.extensions:
            raise ConfigError("app", app.name, "an app that has no Guard yet")
        chosen = _settings(app.config)
        app.extensions[_EXTENSION] = chosen
        app.wsgi_app = _Carrier(app.wsgi_app, chosen.deadline)  # type: ignore[method-assign]  # as Flask has it done
        app.before_request(_give_the_views_deadline)
        known = app.error_handler_spec[None][None]
        for error in (Rejected, CallTimeout, *chosen.upstream_errors):
            if error not in known:
                app.register_error_handler(error, _answer)
        if chosen.has_status:
            app.register_blueprint(blueprint(Site(
                chosen.status_token, allowed=chosen.status_allowed, secret=app.secret_key or None,
                actions=chosen.status_actions)))


def server_sent_events(stream: Iterable[Any], *, encode: Callable[[Any], str | bytes] = sse.encoded) -> Response:
    """A response that sends the items of `stream` as server-sent events, one each, and closes it when all are sent or
    the client is gone; until then the stream holds what it holds.

    The first item is asked for here: what it raises is the view's own error. See `llm_guard.web.sse.Events`.
    """
    return Response(sse.Events(stream, _chosen(), encode), headers=sse.HEADERS)


class _Carrier:
    """The app as a WSGI application, each of whose requests is a call in progress."""

    def __init__(self, app: Callable[..., Iterable[bytes]], seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if switch.is_off:
            return self._app(environ, start_response)
        carried = RequestCall(self._seconds)
        body = carried.run(lambda: self._app(environ, start_response))
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            return body  # the server sends the file itself
        return Body(body, carried)


class _WithProblem(HTTPException):
    """A problem as Flask knows errors that have a status, so that an app's handlers for those see it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = problem.retry_after

    def get_response(self, *args: Any, **kwargs: Any) -> Response:
        body, headers = self.problem.answer(request.headers.get("Accept"))
        return Response(body, self.problem.status, headers)


#: By status, each an error of Werkzeug's own class for it.
_ERRORS: dict[int, type[_WithProblem]] = {
    status: type(default_exceptions[status].__name__, (_WithProblem, default_exceptions[status]), {})
    for status in (429, 502, 503, 504)}


def _answer(error: Exception) -> Any:
    """What Flask calls for an error that nobody else answers."""
    problem = problem_of(error, _chosen())
    if problem is None:
        raise error
    if isinstance(error, GuardError):
        for scope in (*request.blueprints, None):
            handler = current_app.error_handler_spec[scope][None].get(GuardError)
            if handler is not None:  # the app's own for all of them
                return current_app.ensure_sync(handler)(error)
    return current_app.handle_http_exception(_ERRORS[problem.status](problem))


def _give_the_views_deadline() -> None:
    carried = call.in_progress()
    if isinstance(carried, RequestCall) and request.endpoint is not None:
        view = current_app.view_functions.get(request.endpoint)
        carried.give(deadline_of(view, request.method))


def _settings(config: Mapping[str, Any]) -> Settings:
    given = {name.removeprefix(PREFIX): value for name, value in config.items() if name.startswith(PREFIX)}
    found, wrong = settings.read(given, PREFIX)
    if wrong:
        raise wrong[0]
    return found


def _chosen() -> Settings:
    found = current_app.extensions.get(_EXTENSION)
    if not isinstance(found, Settings):
        raise ConfigError("app", current_app.name, "an app that has a Guard: Guard(app)")
    return found
