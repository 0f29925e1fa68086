"""Flask: refusals, timeouts, deadlines and contexts, through its test client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar

import flask
import pytest
import requests
from flask import Blueprint, Flask, current_app, g, session
from flask.views import MethodView
from scripted import Task
from werkzeug.exceptions import HTTPException

from llm_guard import (
    CallTimeout,
    ConfigError,
    GuardError,
    QuotaExhausted,
    Saturated,
    bounded,
    breaker,
    call,
    clock,
    deadline,
    disabled,
    map_with_backpressure,
    ramp_up,
    retry,
    stack,
    timeout,
)
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import Rejected
from llm_guard.web.flask import Guard, request_deadline, server_sent_events

SECRET = "prompt 4711"
END = "event: end\ndata: end\n\n"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def app_of(view: Callable[..., Any], **config: Any) -> Flask:
    """An app with a Guard, whose "/" is `view`."""
    app = Flask(__name__)
    app.config.update({f"LLM_GUARD_{name}": value for name, value in config.items()})
    app.secret_key = "for sessions"
    Guard(app)
    app.add_url_rule("/", "view", view, methods=["GET", "POST"])
    return app


def raising(error: Exception, **config: Any) -> Flask:
    def view() -> str:
        raise error

    return app_of(view, **config)


def time_left() -> str:
    found = call.in_progress()
    return "none" if found is None else f"{found.deadline - clock.current().now():g}"


def upstream(status: int, body: str = "{}", **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response._content = body.encode()
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.HTTPError(SECRET, response=response)


# Refusals and timeouts.

@pytest.mark.parametrize(("error", "status", "kind", "retry_after"), [
    (Saturated(SECRET, policy="bounded"), 503, "saturated", "5"),
    (Saturated(SECRET, policy="ramp_up", retry_after=2.1), 503, "saturated", "3"),
    (Saturated(SECRET, policy="ramp_up", retry_after=0.0), 503, "saturated", "1"),
    (Saturated(SECRET, policy="ramp_up", retry_after=float("inf")), 503, "saturated", "5"),
    (Rejected(SECRET, policy="other", retry_after=30), 503, "rejected", "30"),
    (Rejected(SECRET, policy="other", retry_after=1e308), 503, "rejected", "2147483647"),
    (Rejected(SECRET, policy="other", retry_after=-5.0), 503, "rejected", "1"),
    (QuotaExhausted(SECRET, policy="ramp_up", retry_after=3600), 503, "quota-exhausted", "3600"),
    (CallTimeout(SECRET, seconds=3.0), 504, "timeout", None),
], ids=lambda value: value if isinstance(value, str) else "")
def test_an_error_of_the_guards_is_a_problem(error: Exception, status: int, kind: str, retry_after: str | None) -> None:
    answer = raising(error).test_client().get("/")
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers.get("Retry-After") == retry_after
    told = json.loads(answer.data)
    assert told["type"] == f"urn:llm-guard:{kind}"
    assert told["status"] == status
    assert told.get("retry_after") == (None if retry_after is None else int(retry_after))
    assert told["title"]
    assert told["detail"]
    assert SECRET not in answer.text


def test_an_open_circuit_is_one_too() -> None:
    @breaker(min_calls=1, window=1)
    def view() -> str:
        raise ConnectionError("gone")

    client = app_of(view).test_client()
    with VirtualClock():
        assert client.get("/").status_code == 500
        answer = client.get("/")
        assert answer.status_code == 503
        assert answer.json is not None
        assert answer.json["type"] == "urn:llm-guard:circuit-open"
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
        clock.current().sleep(11)
        assert client.get("/").status_code == 500


@pytest.mark.parametrize(("accept", "content"), [
    (BROWSER, "text/html; charset=utf-8"), ("*/*", "application/problem+json"), (None, "application/problem+json")])
def test_a_browser_gets_a_page(accept: str | None, content: str) -> None:
    app = raising(Saturated("", policy="bounded", retry_after=7))
    answer = app.test_client().get("/", headers={} if accept is None else {"Accept": accept})
    assert answer.headers["Content-Type"] == content
    assert answer.headers["Vary"] == "Accept"
    assert answer.headers["Cache-Control"] == "no-store"
    assert ("<h1>Service Unavailable</h1>" in answer.text) == content.startswith("text/html")
    assert "7 seconds" in answer.text
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")


def test_head_has_the_same_headers_and_no_body() -> None:
    client = raising(Saturated("", policy="bounded")).test_client()
    got, head = client.get("/"), client.head("/")
    assert head.status_code == 503
    assert dict(head.headers) == dict(got.headers)
    assert not head.data


@pytest.mark.parametrize(("by_key", "key_status", "status"), [(True, 429, 429), (True, 503, 503), (False, 429, 503)])
def test_the_callers_own_limit_has_a_status_of_its_own_where_it_is_set(by_key: bool, key_status: int,
                                                                       status: int) -> None:
    app = raising(Saturated("", policy="bounded", by_key=by_key), KEY_STATUS=key_status, RETRY_AFTER=2)
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, "2")


def test_a_fair_share_by_user_who_is_read_from_the_request() -> None:
    share = bounded(3, key=lambda: g.user, per_key=1, max_wait=0.5)

    @share
    def work() -> None:
        clock.current().sleep(10)

    def view() -> str:
        g.user = flask.request.args["user"]
        work()
        return "done"

    client = app_of(view, KEY_STATUS=429).test_client()
    with VirtualClock() as time:
        tasks = [Task(lambda user=user: client.get(f"/?user={user}").status_code) for user in "abca d"]  # type: ignore[misc]
        time.sleep(1)
        assert share.statistics().in_flight == 3
        assert [task.wait() for task in tasks] == [200, 200, 200, 429, 503, 503]


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), ConfigError("n", 1, "2"), upstream(503)],
                         ids=lambda error: type(error).__name__)
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    app = raising(error)
    assert app.test_client().get("/").status_code == 500
    app.testing = True
    with pytest.raises(type(error)):
        app.test_client().get("/")


@pytest.mark.parametrize(("error", "status", "retry_after"), [
    (upstream(503, '{"error": "Model m is currently loading", "estimated_time": 7.5}'), 503, "8"),
    (upstream(429, '{"error": "Rate limit reached"}', Retry_After="3"), 503, "3"), (upstream(503), 503, "5"),
    (upstream(500), 502, None), (requests.ConnectionError(SECRET), 502, None),
    (requests.ReadTimeout(SECRET), 504, None), (upstream(401), 500, None)],
    ids=["loading", "limited", "overload", "failure", "connection", "timeout", "our own fault"])
def test_errors_of_what_is_called_are_answered_where_it_is_set(error: Exception, status: int,
                                                               retry_after: str | None) -> None:
    answer = raising(error, UPSTREAM_ERRORS=["requests.RequestException"]).test_client().get("/")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert SECRET not in answer.text


# The app's own error handlers go first.

def own(error: Exception) -> tuple[str, int]:
    return f"own: {type(error).__name__}", 418


@pytest.mark.parametrize("before", [True, False], ids=["before the Guard", "after it"])
@pytest.mark.parametrize(("handles", "seen"), [
    (Saturated, "Saturated"), (Rejected, "Saturated"), (GuardError, "Saturated"), (503, "ServiceUnavailable"),
    (HTTPException, "ServiceUnavailable"), (Exception, "ServiceUnavailable")], ids=str)
def test_the_apps_own_handler_wins(handles: Any, seen: str, before: bool) -> None:
    app = Flask(__name__)
    if before:
        app.register_error_handler(handles, own)
    Guard(app)
    if not before:
        app.register_error_handler(handles, own)

    @app.get("/")
    def view() -> str:
        raise Saturated("", policy="bounded")

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (418, f"own: {seen}")


def test_a_blueprints_handler_wins_in_the_blueprint() -> None:
    app, area = app_of(lambda: "fine"), Blueprint("area", __name__)
    area.register_error_handler(GuardError, own)

    @area.get("/area")
    def view() -> str:
        raise Saturated("", policy="bounded")

    app.register_blueprint(area)
    app.add_url_rule("/outside", "outside", view)
    assert app.test_client().get("/area").status_code == 418
    assert app.test_client().get("/outside").status_code == 503


def test_what_passes_http_errors_on_passes_ours_on() -> None:
    app = raising(Saturated("", policy="bounded"))

    @app.errorhandler(Exception)
    def handle(error: Exception) -> Any:
        return error if isinstance(error, HTTPException) else ("oh", 500)

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


# Deadlines.

def test_a_request_has_a_deadline_by_default_and_by_setting() -> None:
    with VirtualClock():
        assert app_of(time_left).test_client().get("/").text == "25"
        assert app_of(time_left, DEADLINE=60).test_client().get("/").text == "60"
        assert time_left() == "none"


def test_no_wait_under_a_request_is_longer() -> None:
    limit = bounded(1)
    pace = ramp_up()
    ask = stack(retry(attempts=1000), limit, pace)(lambda: clock.current().sleep(1000))
    client = app_of(lambda: ask() or "done").test_client()
    with VirtualClock() as time:
        Task(ask)
        answer = client.get("/")
        assert time.now() == 25
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        pace.pause(500)
        assert client.get("/").status_code == 503
        assert time.now() == 50


def test_a_mapping_in_a_view_keeps_it() -> None:
    client = app_of(lambda: " ".join(map_with_backpressure(lambda item: time_left(), range(3)))).test_client()
    with VirtualClock():
        assert client.get("/").text == "25 25 25"


def test_a_view_has_a_deadline_of_its_own() -> None:
    class Both(MethodView):
        decorators: ClassVar = [request_deadline(7)]

        def get(self) -> str:
            return time_left()

        @request_deadline(8)
        def post(self) -> str:
            return time_left()

    def late() -> str:
        clock.current().sleep(2)
        return request_deadline(100)(time_left)()

    app = app_of(request_deadline(90)(time_left))
    app.add_url_rule("/above", view_func=ramp_up(retry(request_deadline(80)(time_left))), endpoint="above")
    app.add_url_rule("/below", view_func=request_deadline(70)(ramp_up(time_left)), endpoint="below")
    app.add_url_rule("/shorter", view_func=request_deadline(70)(deadline(3)(time_left)), endpoint="shorter")
    app.add_url_rule("/both", view_func=Both.as_view("both"))
    app.add_url_rule("/late", view_func=late)
    client = app.test_client()
    with VirtualClock():
        assert client.get("/").text == "90"
        assert client.get("/above").text == "80"
        assert client.get("/below").text == "70"
        assert client.get("/shorter").text == "3"
        assert client.get("/both").text == "7"
        assert client.post("/both").text == "8"
        assert client.get("/late").text == "98"


def test_beneath_a_guarded_function_it_only_takes_time_away() -> None:
    longer, shorter = request_deadline(90)(time_left), request_deadline(2)(time_left)
    client = app_of(lambda: retry(lambda: f"{longer()} {shorter()}")()).test_client()
    with VirtualClock():
        assert client.get("/").text == "25 2"
        assert longer() == "90"
        assert time_left() == "none"


@pytest.mark.parametrize("wrong", [0, -1, "5", None, time_left])
def test_a_deadline_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="seconds"):
        request_deadline(wrong)


def test_what_is_made_while_the_answer_is_sent_is_under_the_deadline_too() -> None:
    def view() -> Any:
        def rows() -> Iterator[str]:
            for _ in range(2):
                yield time_left() + " "
                clock.current().sleep(5)
        return flask.Response(rows())

    with VirtualClock():
        assert app_of(request_deadline(60)(view)).test_client().get("/").text == "60 55 "


def test_a_file_is_left_to_the_server() -> None:
    app = app_of(lambda: flask.send_file(__file__))
    given: list[Any] = []

    class Wrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            given.append(file)

        def __iter__(self) -> Iterator[bytes]:
            return iter(())

    body = app.wsgi_app({**app.test_request_context("/").request.environ, "wsgi.file_wrapper": Wrapper},
                        lambda *args: lambda data: None)
    assert isinstance(body, Wrapper)
    given[0].close()


def test_where_guards_are_off_it_is_as_if_there_were_none() -> None:
    client = app_of(time_left).test_client()
    refused = raising(upstream(503), UPSTREAM_ERRORS=[requests.RequestException]).test_client()
    with disabled():
        assert client.get("/").text == "none"
        assert refused.get("/").status_code == 500
    assert refused.get("/").status_code == 503


# Guarded views, and what they call.

def test_views_of_functions_and_classes_are_guarded_like_any_function() -> None:
    limit = bounded(1, max_wait=0)

    @retry
    @limit
    def function(name: str) -> str:
        return f"{name} {limit.statistics().in_flight}"

    class Views(MethodView):
        init_every_request = False
        decorators: ClassVar = [retry]

        @limit
        def get(self, name: str) -> str:
            return f"{name} {limit.statistics().in_flight}"

    app = app_of(lambda: "")
    app.add_url_rule("/function/<name>", view_func=function)
    app.add_url_rule("/class/<name>", view_func=Views.as_view("class"))
    client = app.test_client()
    with VirtualClock():
        assert client.get("/function/x").text == client.get("/class/x").text == "x 1"


@pytest.mark.real
def test_a_timeout_keeps_flasks_contexts() -> None:
    @timeout(20)
    def view() -> flask.Response:
        g.seen = flask.request.args["q"]
        session["seen"] = g.seen
        flask.flash("told")
        with current_app.app_context():  # another, which ends in here
            g.seen = "inner"

        @flask.after_this_request
        def add(response: flask.Response) -> flask.Response:
            response.headers["X-After"] = g.seen
            return response

        return flask.make_response(f"{threading.current_thread().name} {current_app.name} {flask.url_for('view')}")

    app = app_of(view)
    gone: list[str] = []

    @app.teardown_request
    def remember(error: BaseException | None) -> None:
        gone.append(f"{g.seen} {flask.request.args['q']}")

    with app.test_client() as client:
        for _ in range(2):
            answer = client.get("/?q=x")
            assert answer.text == f"llm_guard worker {app.name} /"
            assert answer.headers["X-After"] == "x"
            assert session["seen"] == "x"
    assert set(gone) == {"x x"}
    assert not flask.has_request_context()
    assert not flask.has_app_context()


def test_a_timeout_on_a_view_that_streams_with_context() -> None:
    @timeout(20)
    def view() -> flask.Response:
        def rows() -> Iterator[str]:
            yield flask.request.path
            yield flask.request.args["q"]
        return flask.Response(flask.stream_with_context(rows()))

    with VirtualClock():
        client = app_of(view).test_client()
        assert [client.get("/?q=x").text for _ in range(2)] == ["/x"] * 2
    assert not flask.has_request_context()


@pytest.mark.real
def test_a_view_that_runs_out_of_time_is_a_504_and_leaves_flasks_contexts_to_the_request() -> None:
    go_on, over = threading.Event(), threading.Event()
    seen: list[str] = []

    @timeout(0.05)
    def view() -> str:
        go_on.wait(5)
        seen.append(flask.request.path)
        over.set()
        return "late"

    client = app_of(view).test_client()
    answer = client.get("/")
    assert answer.status_code == 504
    assert not flask.has_request_context()
    go_on.set()
    assert over.wait(5)
    assert seen == ["/"]


# Streams.

def stream_of(*script: Any, limit: Any = None) -> Callable[[], Any]:
    """A guarded generator function: yields each entry, sleeps for each number, raises each error."""
    def items() -> Iterator[Any]:
        for entry in script:
            if isinstance(entry, Exception):
                raise entry
            if isinstance(entry, float):
                clock.current().sleep(entry)
            else:
                yield entry

    return (limit or bounded(1))(items)  # type: ignore[no-any-return]


def test_a_stream_is_sent_as_events() -> None:
    ask = stream_of("one", "two\nlines", {"n": 3}, "a\r\nb\rc", "")
    with VirtualClock():
        answer = app_of(lambda: server_sent_events(ask())).test_client().get("/")
    assert answer.headers["Content-Type"].split(";")[0] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.text == ('data: one\n\ndata: two\ndata: lines\n\ndata: {"n": 3}\n\ndata: a\ndata: b\ndata: c\n\n'
                           "data: \n\nevent: end\ndata: end\n\n")


def test_items_may_be_encoded_in_another_way() -> None:
    from llm_guard.web.flask import event

    ask = stream_of(1, 2)
    with VirtualClock():
        answer = app_of(lambda: server_sent_events(
            ask(), encode=lambda item: event("two", "special") if item == 2 else str(item))).test_client().get("/")
    assert answer.text.startswith("data: 1\n\nevent: special\ndata: two\n\n")


def test_permits_are_held_until_the_client_has_it_all_or_is_gone() -> None:
    limit = bounded(2)
    ask = stream_of("a", "b", "c", limit=limit)
    client = app_of(lambda: server_sent_events(ask())).test_client()
    with VirtualClock():
        whole, left = client.get("/"), client.get("/")
        assert limit.statistics().in_flight == 2
        assert whole.text.endswith("event: end\ndata: end\n\n")
        assert limit.statistics().in_flight == 1
        body = left.iter_encoded()
        assert next(iter(body)) == b"data: a\n\n"
        left.close()
        assert limit.statistics().in_flight == 0
        client.head("/").close()
        assert limit.statistics().in_flight == 0


@pytest.mark.parametrize("plain", [True, False], ids=["plain generator", "guarded"])
@pytest.mark.parametrize(("error", "status"), [(Saturated("", policy="x"), 503), (CallTimeout("", seconds=1), 504),
                                               (KeyError(SECRET), 500)], ids=["refused", "late", "bug"])
def test_what_goes_wrong_before_the_first_item_has_a_status(error: Exception, status: int, plain: bool) -> None:
    limit = bounded(1)
    ask: Any = stream_of(error, "never", limit=(lambda function: function) if plain else limit)
    client = app_of(lambda: server_sent_events(ask())).test_client()
    with VirtualClock():
        assert client.get("/").status_code == status
        assert limit.statistics().in_flight == 0


@pytest.mark.parametrize(("error", "kind"), [
    (CallTimeout(SECRET, seconds=1), "timeout"), (KeyError(SECRET), "failed"),
    (Saturated(SECRET, policy="x"), "saturated")], ids=["late", "bug", "refused"])
def test_what_goes_wrong_later_is_the_last_event(error: Exception, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    limit = bounded(1)
    ask = stream_of("one", error, limit=limit)
    client = app_of(lambda: server_sent_events(ask())).test_client()
    with VirtualClock():
        rows = client.get("/").text.split("\n\n")
        assert limit.statistics().in_flight == 0
    assert rows[0] == "data: one"
    assert rows[1].startswith("event: error\ndata: {")
    assert json.loads(rows[1].split("data: ")[1])["type"] == f"urn:llm-guard:{kind}"
    assert rows[2:] == [""]
    assert SECRET not in str(rows) + caplog.text
    assert ("KeyError" in caplog.text) == (kind == "failed")


def test_an_item_that_cannot_be_encoded_closes_the_stream() -> None:
    limit = bounded(2)
    first, later = stream_of(object(), limit=limit), stream_of("a", object(), limit=limit)
    with VirtualClock():
        assert app_of(lambda: server_sent_events(first())).test_client().get("/").status_code == 500
        assert "event: error" in app_of(lambda: server_sent_events(later())).test_client().get("/").text
        assert limit.statistics().in_flight == 0


def test_an_empty_stream_is_an_end() -> None:
    ask = stream_of()
    with VirtualClock():
        assert app_of(lambda: server_sent_events(ask())).test_client().get("/").text == "event: end\ndata: end\n\n"


def test_a_stream_ends_at_its_views_deadline() -> None:
    ask = stream_of("a", 20.0, "b", 20.0, "c", 20.0, "d")
    client = app_of(request_deadline(50)(lambda: server_sent_events(ask()))).test_client()
    with VirtualClock() as time:
        rows = client.get("/").text.split("\n\n")
        assert [row.split("\n")[0] for row in rows] == ["data: a", "data: b", "data: c", "data: d", "event: error", ""]
        assert time.now() == 60  # between two items: nothing cuts one that is being made in this thread


@pytest.mark.parametrize("policy", [None, "timeout of the view", "timeout of the stream"])
def test_a_streams_function_sees_the_request_to_its_end(policy: str | None) -> None:
    def items() -> Iterator[str]:
        for _ in range(3):
            yield f"{flask.request.args['q']} {g.user} {time_left() != 'none'}"

    ask: Any = timeout(20)(items) if policy == "timeout of the stream" else bounded(1)(items)

    def view() -> Any:
        g.user = "me"
        return server_sent_events(ask())

    app = app_of(timeout(20)(view) if policy == "timeout of the view" else view)
    with VirtualClock():
        assert app.test_client().get("/?q=x").text == "data: x me True\n\n" * 3 + END


def test_a_streams_function_lives_in_one_context() -> None:
    variable = ContextVar("variable", default="outside")

    def items() -> Iterator[str]:
        token = variable.set("inside")
        yield variable.get()
        yield variable.get()
        variable.reset(token)
        yield variable.get()

    client = app_of(lambda: server_sent_events(items())).test_client()
    assert client.get("/").text == "data: inside\n\ndata: inside\n\ndata: outside\n\n" + END
    assert variable.get() == "outside"


# Settings.

@pytest.mark.parametrize(("config", "told"), [
    ({"DEADLIN": 3}, "LLM_GUARD_DEADLIN=3 is not allowed: no setting; there are LLM_GUARD_DEADLINE, "),
    ({"DEADLINE": 0}, "LLM_GUARD_DEADLINE=0"), ({"DEADLINE": None}, "LLM_GUARD_DEADLINE=None"),
    ({"DEADLINE": float("inf")}, "finite"), ({"RETRY_AFTER": "5"}, "LLM_GUARD_RETRY_AFTER='5'"),
    ({"KEY_STATUS": 500}, "429 or 503"), ({"KEY_STATUS": True}, "429 or 503"),
    ({"UPSTREAM_ERRORS": "requests.RequestException"}, "a list"), ({"UPSTREAM_ERRORS": [3]}, "a class of errors"),
    ({"UPSTREAM_ERRORS": ["requests.Nothing"]}, "can be imported"), ({"UPSTREAM_ERRORS": ["nothing"]}, "imported"),
    ({"UPSTREAM_ERRORS": [KeyboardInterrupt]}, "a class of errors")])
def test_a_setting_that_cannot_work_is_refused_at_once(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        app_of(time_left, **config)


def test_one_guard_may_serve_several_apps_but_each_app_has_one() -> None:
    guard, one, two = Guard(), Flask("one"), Flask("two")
    two.config["LLM_GUARD_DEADLINE"] = 9
    for app in (one, two):
        guard.init_app(app)
        app.add_url_rule("/", view_func=time_left)
    with VirtualClock():
        assert one.test_client().get("/").text == "25"
        assert two.test_client().get("/").text == "9"
    with pytest.raises(ConfigError, match="no Guard yet"):
        Guard(one)


def test_without_a_guard_the_helper_says_what_is_missing() -> None:
    app = Flask(__name__)
    with app.test_request_context("/"), pytest.raises(ConfigError, match=r"Guard\(app\)"):
        server_sent_events(["a"])
