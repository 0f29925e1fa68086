"""Django: refusals, timeouts and deadlines, through its test client, and what its system checks tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import requests
from django.conf import settings
from django.core.checks import run_checks
from django.db import connection, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django_site import GUARD, site, view_at_root
from scripted import Task

from llm_guard import (
    CallTimeout,
    ConfigError,
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
from llm_guard.web.django import request_deadline, server_sent_events
from llm_guard.web.django.middleware import GuardMiddleware

SECRET = "prompt 4711"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
END = "event: end\ndata: end\n\n"


def raising(error: Exception) -> Any:
    def view(request: HttpRequest) -> HttpResponse:
        raise error

    return view


def seconds_left() -> str:
    found = call.in_progress()
    return "none" if found is None else f"{found.deadline - clock.current().now():g}"


def time_left(request: HttpRequest) -> HttpResponse:
    return HttpResponse(seconds_left())


def text(answer: Any) -> str:
    return (answer.getvalue() if answer.streaming else answer.content).decode()  # type: ignore[no-any-return]


# Refusals and timeouts.

@pytest.mark.parametrize(("error", "status", "kind", "retry_after"), [
    (Saturated(SECRET, policy="bounded"), 503, "saturated", "5"),
    (Saturated(SECRET, policy="ramp_up", retry_after=2.1), 503, "saturated", "3"),
    (Rejected(SECRET, policy="other", retry_after=30), 503, "rejected", "30"),
    (QuotaExhausted(SECRET, policy="ramp_up", retry_after=3600), 503, "quota-exhausted", "3600"),
    (CallTimeout(SECRET, seconds=3.0), 504, "timeout", None),
], ids=lambda value: value if isinstance(value, str) else "")
def test_an_error_of_the_guards_is_a_problem(error: Exception, status: int, kind: str, retry_after: str | None) -> None:
    with view_at_root(raising(error)) as client:
        answer = client.get("/")
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers.get("Retry-After") == retry_after
    told = json.loads(answer.content)
    assert (told["type"], told["status"]) == (f"urn:llm-guard:{kind}", status)
    assert SECRET not in text(answer)


def test_a_browser_gets_a_page_and_head_no_body() -> None:
    with view_at_root(raising(Saturated("", policy="bounded", retry_after=7))) as client:
        page, problem = client.get("/", headers={"Accept": BROWSER}), client.get("/", headers={"Accept": "*/*"})
        head = client.head("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>Service Unavailable</h1>" in text(page)
    assert (page.status_code, page.headers["Retry-After"]) == (503, "7")
    assert (head.status_code, head.content, dict(head.headers)) == (503, b"", dict(problem.headers))
    assert head.headers["Content-Length"] == str(len(problem.content))
    asked = HttpRequest()
    asked.method = "HEAD"
    answer = GuardMiddleware(time_left).process_exception(asked, CallTimeout("", seconds=1))
    assert answer is not None
    assert not answer.content  # not every server keeps it back


def test_other_errors_are_left_as_they_are() -> None:
    for error in (KeyError("x"), ConfigError("n", 1, "2"), requests.ConnectionError("x")):
        with view_at_root(raising(error)) as client:
            assert client.get("/").status_code == 500


@pytest.mark.parametrize(("given", "error", "status"), [
    ({"KEY_STATUS": 429}, Saturated("", policy="bounded", by_key=True), 429),
    ({"KEY_STATUS": 429}, Saturated("", policy="bounded"), 503),
    ({"UPSTREAM_ERRORS": ["requests.RequestException"]}, requests.ConnectionError("x"), 502)])
def test_statuses_are_as_they_are_set(given: dict[str, Any], error: Exception, status: int) -> None:
    with view_at_root(raising(error), LLM_GUARD=given) as client:
        assert client.get("/").status_code == status


class Own:
    """A middleware with answers of its own."""

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return HttpResponse("own", status=418) if isinstance(error, Saturated) else None


def test_the_projects_own_middleware_goes_first() -> None:
    middleware = [GUARD, f"{__name__}.Own"]
    for error, status in ((Saturated("", policy="x"), 418), (CallTimeout("", seconds=1), 504)):
        with view_at_root(raising(error), MIDDLEWARE=middleware) as client:
            assert client.get("/").status_code == status


# Deadlines.

def test_a_request_has_a_deadline_which_every_wait_keeps() -> None:
    limit = bounded(1)
    ask = stack(retry(attempts=1000), limit)(lambda: clock.current().sleep(1000))

    def view(request: HttpRequest) -> HttpResponse:
        ask()
        return HttpResponse("done")

    with VirtualClock() as time:
        Task(ask)
        with view_at_root(view) as client:
            assert client.get("/").status_code == 503
            assert time.now() == 25
        with view_at_root(view, LLM_GUARD={"DEADLINE": 5}) as client:
            assert client.get("/").status_code == 503
            assert time.now() == 30
    assert call.in_progress() is None


def test_a_view_has_a_deadline_of_its_own() -> None:
    class OfMethod(View):
        @request_deadline(8)
        def get(self, request: HttpRequest) -> HttpResponse:
            return time_left(request)

    @method_decorator(request_deadline(7), name="dispatch")
    class OfClass(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return time_left(request)

    urls = [path("plain", time_left), path("above", ramp_up(request_deadline(80)(time_left))),
            path("below", request_deadline(70)(retry(deadline(3)(time_left)))), path("method", OfMethod.as_view()),
            path("class", OfClass.as_view()), path("guarded", retry(OfClass.as_view()))]
    with VirtualClock(), site(*urls) as client:
        found = {name: text(client.get(f"/{name}")) for name in ("plain", "above", "below", "method", "class",
                                                                 "guarded")}
    assert found == {"plain": "25", "above": "80", "below": "3", "method": "8", "class": "7", "guarded": "7"}


def test_what_is_made_while_the_answer_is_sent_is_under_the_deadline_too() -> None:
    def view(request: HttpRequest) -> StreamingHttpResponse:
        def rows() -> Iterator[str]:
            for _ in range(2):
                yield seconds_left() + " "
                clock.current().sleep(5)
        return StreamingHttpResponse(rows())

    with VirtualClock(), view_at_root(request_deadline(60)(view)) as client:
        assert text(client.get("/")) == "60 55 "


def test_where_guards_are_off_it_is_as_if_there_were_none() -> None:
    with disabled():
        with view_at_root(time_left) as client:
            assert text(client.get("/")) == "none"
        with view_at_root(raising(Saturated("", policy="x"))) as client:
            assert client.get("/").status_code == 500


def test_a_file_is_left_to_the_server() -> None:
    file = open(__file__, "rb")  # noqa: SIM115 - the response closes it
    answer: Any = GuardMiddleware(lambda request: FileResponse(file))(HttpRequest())
    assert answer.file_to_stream is file
    answer.close()


# Guarded views of both kinds.

def test_functions_and_classes_are_guarded_like_any_function() -> None:
    limit = bounded(1, key=lambda *args, **kwargs: kwargs["name"], per_key=1, max_wait=0)

    @retry
    @limit
    def function(request: HttpRequest, name: str) -> HttpResponse:
        return HttpResponse(f"{name} {limit.statistics().in_flight}")

    class Right(View):
        @limit
        def get(self, request: HttpRequest, name: str) -> HttpResponse:
            return function(request, name=name)

    @method_decorator([retry(), limit], name="dispatch")
    class Whole(Right):
        pass

    class Decorated(View):
        @method_decorator(limit)
        def get(self, request: HttpRequest, name: str) -> HttpResponse:
            return function(request, name=name)

    urls = [path("function/<name>", function), path("right/<name>", Right.as_view()),
            path("whole/<name>", Whole.as_view()), path("decorated/<name>", Decorated.as_view())]
    with VirtualClock(), site(*urls) as client:
        for kind in ("function", "right", "whole", "decorated"):
            assert text(client.get(f"/{kind}/x")) == "x 1"
        assert limit.statistics().peak == 1


@pytest.mark.parametrize("policy", [ramp_up, breaker, retry, timeout], ids=lambda policy: policy.__name__)
def test_a_policy_that_would_begin_anew_with_each_request_is_refused(policy: Any) -> None:
    with pytest.raises(ConfigError, match=rf"method_decorator\({policy.__name__}\(\)\)"):
        @method_decorator(policy, name="dispatch")
        class Refused(View):
            pass


def test_a_policy_made_once_keeps_its_state_under_method_decorator() -> None:
    broken = breaker(min_calls=1, window=1)

    @method_decorator(broken, name="dispatch")
    class Broken(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            raise ConnectionError("gone")

    with VirtualClock(), view_at_root(Broken.as_view()) as client:
        assert [client.get("/").status_code for _ in range(3)] == [500, 503, 503]


# Streams.

def test_a_stream_holds_its_permits_until_the_client_has_it_all_or_is_gone() -> None:
    limit = bounded(2)

    @limit
    def ask() -> Iterator[str]:
        yield from "abc"

    with VirtualClock(), view_at_root(lambda request: server_sent_events(ask())) as client:
        whole, left = client.get("/"), client.get("/")
        assert whole.headers["Content-Type"] == "text/event-stream"
        assert limit.statistics().in_flight == 2
        assert text(whole) == "data: a\n\ndata: b\n\ndata: c\n\n" + END
        assert limit.statistics().in_flight == 1
        assert next(iter(left)) == b"data: a\n\n"
        left.close()
        assert limit.statistics().in_flight == 0


def test_nothing_of_a_stream_is_made_for_head_beyond_what_decides_the_status() -> None:
    limit = bounded(1)
    made: list[int] = []

    @limit
    def ask() -> Iterator[str]:
        for number in range(3):
            made.append(number)
            yield str(number)

    with VirtualClock(), view_at_root(lambda request: server_sent_events(ask())) as client:
        head = client.head("/")
        assert (text(head), head.headers["Content-Type"]) == ("", "text/event-stream")
        assert limit.statistics().in_flight == 0
    assert made == [0]


def test_what_goes_wrong_has_a_status_before_the_first_item_and_is_an_event_after_it() -> None:
    @bounded(1)
    def ask(items: str) -> Iterator[str]:
        yield from items
        raise CallTimeout(SECRET, seconds=1)

    with VirtualClock(), view_at_root(lambda request: server_sent_events(ask(request.GET["items"]))) as client:
        assert client.get("/?items=").status_code == 504
        rows = text(client.get("/?items=a")).split("\n\n")
    assert rows[0] == "data: a"
    assert rows[1].startswith('event: error\ndata: {"type": "urn:llm-guard:timeout"')
    assert SECRET not in str(rows)


# Databases.

def on_worker(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return HttpResponse(str(cursor.fetchone()[0]))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many connections were opened and closed."""
    counts = {"opened": 0, "closed": 0}
    open_one, close_one = DatabaseWrapper.get_new_connection, DatabaseWrapper._close

    def get_new_connection(self: Any, params: Any) -> Any:
        counts["opened"] += 1
        return open_one(self, params)

    def _close(self: Any) -> Any:
        counts["closed"] += self.connection is not None
        return close_one(self)

    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", get_new_connection)
    monkeypatch.setattr(DatabaseWrapper, "_close", _close)
    return counts


@pytest.mark.real
@pytest.mark.parametrize("max_age", [0, None])
def test_no_connection_of_a_worker_is_left(opened: dict[str, int], max_age: int | None,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", max_age)
    connection.close()
    before = opened.copy()
    with view_at_root(timeout(20)(on_worker)) as client:
        for _ in range(5):
            assert text(client.get("/")) == "1"
    assert opened["opened"] - before["opened"] == opened["closed"] - before["closed"] == 5


@pytest.mark.real
def test_a_mapping_leaves_none_either_and_is_refused_outside_of_its_callers_transaction(opened: dict[str, int]) -> None:
    def query(item: int) -> bytes:
        return on_worker(HttpRequest()).content

    assert list(map_with_backpressure(query, range(10), workers=3)) == [b"1"] * 10
    assert opened["opened"] == opened["closed"] > 0
    with transaction.atomic(), pytest.raises(transaction.TransactionManagementError, match="@deadline"):
        list(map_with_backpressure(query, range(3)))


@pytest.mark.real
def test_a_job_finds_nothing_of_the_one_before_on_its_worker() -> None:
    @timeout(20)
    def kept() -> list[str]:
        found = [each.alias for each in connections.all(initialized_only=True)]
        on_worker(HttpRequest())
        return found

    assert [kept() for _ in range(3)] == [[]] * 3


@pytest.mark.real
def test_a_function_that_was_left_to_itself_closes_its_connection_when_it_ends(opened: dict[str, int]) -> None:
    go_on, over = clock.current().waiter(), clock.current().waiter()

    def view(request: HttpRequest) -> HttpResponse:
        answer = on_worker(request)
        over.set()
        go_on.wait(5)
        return answer

    with view_at_root(timeout(0.5)(view)) as client:
        assert client.get("/").status_code == 504
    assert over.wait(5)
    assert opened["opened"] > opened["closed"]
    go_on.set()
    for _ in range(500):
        if opened["opened"] == opened["closed"]:
            break
        clock.current().sleep(0.01)
    assert opened["opened"] == opened["closed"] == 1


@pytest.mark.real
def test_a_query_outside_of_its_callers_transaction_is_refused_at_once() -> None:
    asked: list[int] = []

    @retry
    @timeout(20)
    def query() -> None:
        asked.append(1)
        on_worker(HttpRequest())

    @timeout(20)
    def nested() -> None:
        query()

    @timeout(20)
    def harmless() -> str:
        return "no database"

    query()
    with transaction.atomic():
        assert harmless() == "no database"
        for function in (query, nested):
            with pytest.raises(transaction.TransactionManagementError, match="@deadline"):
                function()
        deadline(20)(lambda: on_worker(HttpRequest()))()
    assert len(asked) == 3
    query()


@pytest.mark.real
def test_a_view_whose_transaction_is_its_request_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    urls = [path("timeout", timeout(20)(on_worker)), path("deadline", deadline(20)(on_worker)),
            path("outside", transaction.non_atomic_requests(timeout(20)(on_worker)))]
    with site(*urls) as client:
        assert [client.get(f"/{name}").status_code for name in ("timeout", "deadline", "outside")] == [500, 200, 200]


# System checks.

def told(**changes: Any) -> list[str]:
    with override_settings(**changes):
        found = [message for message in run_checks() if (message.id or "").startswith("llm_guard")]
    return [f"{message.id}: {message.msg}" for message in found]


def urls_of(*views: Any) -> ModuleType:
    root = ModuleType("urls_to_check")
    root.urlpatterns = [path(f"{number}", view) for number, view in enumerate(views)]  # type: ignore[attr-defined]
    return root


def test_a_project_that_is_well_set_up_is_told_nothing() -> None:
    root = urls_of(timeout(3)(time_left))
    assert told(ROOT_URLCONF=root) == []
    assert told(ROOT_URLCONF=root, LLM_GUARD={"DEADLINE": 60, "RETRY_AFTER": 2, "KEY_STATUS": 429,
                                              "UPSTREAM_ERRORS": ["requests.RequestException", OSError]}) == []


@pytest.mark.parametrize(("given", "says"), [
    ({"DEADLIN": 3}, "DEADLIN=3 is not allowed: no setting; there are DEADLINE, RETRY_AFTER"),
    ({"DEADLINE": "60"}, "DEADLINE='60'"), ({"KEY_STATUS": 500}, "429 or 503"), ({3: 4}, "keys are names"),
    ([], "a dict"), ({"UPSTREAM_ERRORS": ["requests.Nothing"]}, "can be imported")], ids=str)
def test_wrong_settings_are_told_of(given: Any, says: str) -> None:
    [line] = told(ROOT_URLCONF=urls_of(), LLM_GUARD=given)
    assert line.startswith("llm_guard.E001: LLM_GUARD: ")
    assert says in line
    with pytest.raises(ConfigError), view_at_root(time_left, LLM_GUARD=given) as client:
        client.get("/")


def test_all_that_is_wrong_is_told_of() -> None:
    assert len(told(ROOT_URLCONF=urls_of(), LLM_GUARD={"A": 1, "DEADLINE": 0, "RETRY_AFTER": -1})) == 3


@pytest.mark.parametrize(("middleware", "id_"), [
    ([], "E002"), ([GUARD, GUARD], "E003"), (["django.contrib.sessions.middleware.SessionMiddleware", GUARD], "W001")])
def test_middleware_that_is_missing_or_misplaced_is_told_of(middleware: list[str], id_: str) -> None:
    [line] = told(ROOT_URLCONF=urls_of(), MIDDLEWARE=middleware)
    assert line.startswith(f"llm_guard.{id_}")


class Timed(View):
    @timeout(3)
    def get(self, request: HttpRequest) -> HttpResponse:
        return time_left(request)


@method_decorator([timeout(3)], name="dispatch")
class TimedWhole(View):
    pass


@pytest.mark.parametrize(("view", "bad"), [
    (timeout(3)(time_left), True), (request_deadline(3)(timeout(3)(time_left)), True), (Timed.as_view(), True),
    (TimedWhole.as_view(), True), (deadline(3)(time_left), False), (View.as_view(), False),
    (transaction.non_atomic_requests(timeout(3)(time_left)), False)],
    ids=["function", "wrapped", "method", "class", "deadline", "plain class", "not atomic"])
def test_a_view_that_would_leave_its_transaction_is_told_of(view: Any, bad: bool) -> None:
    root = urls_of(view)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
        lines = told(ROOT_URLCONF=root)
    assert [line.split(":")[0] for line in lines] == ["llm_guard.E004"] * bad
    assert told(ROOT_URLCONF=root) == []
