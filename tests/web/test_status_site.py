"""What the status site shows and does for those who may look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from scripted_calls import Task
from status_visitor import TOKEN, Visitor, header

from llm_guard import Rejected, bounded, breaker, clock, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind, Outcome
from llm_guard.web.status import Site
from llm_guard.web.status.files import STATIC
from llm_guard.web.status.snapshot import MOST


@pytest.fixture
def time() -> Iterator[VirtualClock]:
    with VirtualClock() as virtual:
        yield virtual


def visitor(**options: Any) -> Visitor:
    found = Visitor(Site(TOKEN, **options))
    found.sign_in()
    return found


def facts_of(status: dict[str, Any], function: Any) -> dict[str, Any]:
    name = f"{function.__module__}.{function.__qualname__}"
    [found] = [facts for facts in status["functions"] if facts["name"] == name]
    return dict(found)


def answer(seconds: float = 1.0) -> str:
    clock.current().sleep(seconds)
    return "answer"


def test_a_limit_of_each_key_is_not_told_as_one_on_all(time: VirtualClock) -> None:
    @bounded(2, per_key="user")
    def each_has_two(user: str) -> str:
        return answer()

    @bounded(8, key="user", per_key=3)
    def eight_and_each_has_three(user: str) -> str:
        return answer()

    mine = visitor()
    tasks = [Task(lambda user=user: each_has_two(user)) for user in "abc" for _ in range(2)]  # type: ignore[misc]
    time.sleep(0.5)
    facts = facts_of(mine.status(), each_has_two)
    assert (facts["in_flight"], facts["limit"], facts["share"]) == (6, None, 2)
    facts = facts_of(mine.status(), eight_and_each_has_three)
    assert (facts["in_flight"], facts["limit"], facts["share"]) == (0, 8, 3)
    for task in tasks:
        task.wait()


def test_it_tells_how_each_function_stands(time: VirtualClock) -> None:
    @ramp_up(ceiling=50)
    @bounded(8)
    @retry
    @timeout(20)
    def only_one_of_its_name(seconds: float) -> str:
        return answer(seconds)

    mine = visitor()
    facts = facts_of(mine.status(), only_one_of_its_name)
    assert facts["label"] == "only_one_of_its_name"
    assert facts["policies"] == ["ramp_up", "bounded", "retry", "timeout"]
    assert (facts["pace"]["state"], facts["pace"]["ceiling"], facts["limit"]) == ("cold", 50.0, 8)
    assert (facts["breaker"], facts["latency"], facts["outcomes"], facts["in_flight"]) == (None, None, {}, 0)
    tasks = [Task(lambda: only_one_of_its_name(2.0)) for _ in range(10)]
    time.sleep(1)
    facts = facts_of(mine.status(), only_one_of_its_name)
    assert facts["in_flight"] + facts["waiting"] == 10
    assert facts["in_flight"] >= 1
    assert facts["waiting"] == only_one_of_its_name.waiting() > 0
    for task in tasks:
        task.wait()
    facts = facts_of(mine.status(), only_one_of_its_name)
    assert facts["outcomes"] == {"success": 10}
    assert facts["latency"]["p99"] == pytest.approx(2.0, rel=0.05)
    assert facts["pace"]["state"] in ("ramping", "steady")
    assert sum(facts["curves"]["answered"]) == 10
    assert max(facts["curves"]["waiting"]) > 0


def test_it_tells_of_a_circuit_and_of_calls_that_were_not_started(time: VirtualClock) -> None:
    @breaker(window=2, min_calls=2, open_for=30)
    def ask() -> str:
        raise ConnectionError

    mine = visitor()
    assert facts_of(mine.status(), ask)["breaker"]["state"] == "closed"
    for _ in range(5):
        with pytest.raises((ConnectionError, Rejected)):
            ask()
    facts = facts_of(mine.status(), ask)
    assert facts["breaker"]["state"] == "open"
    assert facts["breaker"]["open_in"] > 20
    assert facts["pace"] is None
    assert (facts["outcomes"], facts["rejected"]) == ({"failure": 2}, {"breaker": 3})


def test_calls_of_a_stack_are_shown_too(time: VirtualClock) -> None:
    guard = stack(ramp_up(), retry())
    mine = visitor()
    guard.call(answer)
    assert "stack(ramp_up, retry)" in [facts["label"] for facts in mine.status()["functions"]]


def test_functions_of_one_name_are_told_apart_by_their_modules_or_a_number(time: VirtualClock) -> None:
    def make(module: str) -> Any:
        def view() -> str:
            return "answer"

        view.__module__, view.__qualname__ = module, "three_of_a_name"
        return bounded(1)(view)

    views = [make("shop"), make("blog"), make("blog")]
    labels = [facts["label"] for facts in visitor().status()["functions"] if "three_of_a_name" in facts["name"]]
    assert labels == ["blog.three_of_a_name", "blog.three_of_a_name#2", "shop.three_of_a_name"]
    del views


def test_it_says_of_which_process_it_tells_and_only_what_is_new_to_who_has_the_rest(time: VirtualClock) -> None:
    ask = bounded(1)(answer)
    ask()
    mine = visitor()
    status = mine.status()
    assert status["process"] == os.getpid()
    assert len(facts_of(status, ask)["curves"]["answered"]) == status["bins"] == 180
    last = status["bin"]
    time.sleep(3 * status["width"])
    curves = facts_of(mine.status(f"process={os.getpid()}&since={last}"), ask)["curves"]
    assert (curves["first"], len(curves["answered"])) == (last, 4)
    for query in (f"process={os.getpid() + 1}&since={last}", f"since={last}", "process=x&since=-1",
                  f"process={os.getpid()}&since={'9' * 5000}"):
        assert len(facts_of(mine.status(query), ask)["curves"]["answered"]) == 180


def test_more_functions_than_can_be_shown_are_counted(time: VirtualClock) -> None:
    many = [bounded(1)(lambda: None) for _ in range(MOST + 5)]
    status = visitor().status()
    assert len(status["functions"]) == MOST
    assert status["left_out"] >= 5
    del many


def test_what_json_has_no_number_for_is_none(time: VirtualClock) -> None:
    quota = Outcome(Kind.QUOTA)

    @ramp_up(classify=lambda end: quota, idle=None)
    def ask() -> str:
        return "answer"

    ask()
    text = visitor().get("/status.json").body.decode()
    assert json.loads(text, parse_constant=pytest.fail)


def test_nothing_of_arguments_answers_and_errors_is_told(time: VirtualClock) -> None:
    @ramp_up(key="prompt")
    @bounded(4, per_key="prompt")
    @retry(attempts=2)
    def ask(prompt: str) -> str:
        if "no" in prompt:
            raise ConnectionError(f"PRIVATE {prompt}")
        return f"PRIVATE {prompt}"

    mine = visitor()
    ask("PRIVATE yes")
    with pytest.raises(ConnectionError):
        ask("PRIVATE no")
    assert facts_of(mine.status(), ask)["outcomes"] == {"success": 1, "failure": 2}
    for path in ("/status.json", "/metrics", "/"):
        assert b"PRIVATE" not in mine.get(path).body


def paced() -> Any:
    @ramp_up
    def ask() -> str:
        return answer(0.1)

    return ask


def test_pause_holds_calls_back_and_resume_lets_them_go(time: VirtualClock) -> None:
    ask, mine = paced(), visitor()
    name = f"{ask.__module__}.{ask.__qualname__}"
    assert mine.act(action="pause", function=name, process=os.getpid(), seconds=600).status == 200
    pace = facts_of(mine.status(), ask)["pace"]
    assert (pace["state"], pace["gate_in"]) == ("paused", pytest.approx(600))
    task = Task(ask)
    time.sleep(100)
    assert task.ended_at is None
    assert facts_of(mine.status(), ask)["waiting"] == 1
    assert mine.act(action="resume", function=name, process=os.getpid()).status == 200
    task.wait()
    assert task.ended_at == pytest.approx(100.1)


def test_who_shares_a_pace_is_named(time: VirtualClock) -> None:
    pace = ramp_up()

    @pace
    def first() -> None: ...

    @pace
    def second() -> None: ...

    mine = visitor()
    assert facts_of(mine.status(), first)["shares"] == ["second"]
    mine.act(action="pause", function=f"{first.__module__}.{first.__qualname__}", seconds=60)
    assert facts_of(mine.status(), second)["pace"]["state"] == "paused"


@pytest.mark.parametrize(("change", "status"), [
    ({"process": 0}, 409), ({"function": "nobody"}, 404), ({"function": None}, 404), ({"function": ["x"]}, 404),
    ({"seconds": 0}, 422), ({"seconds": -1}, 422), ({"seconds": True}, 422), ({"seconds": "60"}, 422),
    ({"seconds": None}, 422), ({"seconds": 1e9}, 422), ({"action": "stop"}, 422), ({"action": None}, 422)],
    ids=["process", "nobody", "none", "list", "zero", "negative", "bool", "text", "no seconds", "long", "word",
         "no word"])
def test_what_cannot_be_done_is_refused_and_changes_nothing(time: VirtualClock, change: dict[str, Any],
                                                           status: int) -> None:
    ask, mine = paced(), visitor()
    asked = {"action": "pause", "function": f"{ask.__module__}.{ask.__qualname__}", "seconds": 60} | change
    response = mine.act(**asked)
    assert response.status == status
    assert json.loads(response.body)["error"]
    assert ask.statistics()["ramp_up"].pace.state == "cold"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"1" * 5000, b"[" * 5000], ids=range(6))
def test_what_is_no_json_is_refused(body: bytes) -> None:
    mine = visitor()
    assert mine.post("/act", body, x_form_key=mine.key()).status == 400


def test_a_function_without_a_pace_cannot_be_paused(time: VirtualClock) -> None:
    ask = bounded(1)(answer)
    response = visitor().act(action="pause", function=f"{ask.__module__}.{ask.__qualname__}", seconds=60)
    assert response.status == 422


def test_buttons_can_be_switched_off(time: VirtualClock) -> None:
    ask, mine = paced(), visitor(actions=False)
    assert mine.status()["actions"] is False
    assert mine.act(action="pause", function=f"{ask.__module__}.{ask.__qualname__}", seconds=60).status == 403
    assert ask.statistics()["ramp_up"].pace.state == "cold"


def test_live_is_always_live_to_everybody() -> None:
    stranger = Visitor(Site(TOKEN, ready="started"))
    assert stranger.get("/live")[::2] == (200, b"ok\n")


def test_it_is_ready_while_cold_unless_set_otherwise(time: VirtualClock) -> None:
    def broken() -> bool:
        raise ConnectionError("PRIVATE")

    said = [False]
    ask = paced()
    ways: list[Any] = ["always", "started", lambda: said[0], broken]
    at_once, later, told, fails = (Visitor(Site(TOKEN, ready=how)) for how in ways)
    assert [each.get("/ready").status for each in (at_once, later, told, fails)] == [200, 503, 503, 503]
    assert fails.get("/ready").body == b"not ready\n"
    ask()
    said[0] = True
    assert [each.get("/ready").status for each in (at_once, later, told, fails)] == [200, 200, 200, 503]
    assert later.get("/ready").body == b"ready\n"


def test_metrics_are_those_of_the_prometheus_client() -> None:
    response = visitor().get("/metrics")
    assert response.status == 200
    assert (header(response, "Content-Type") or "").startswith("text/plain; version=")
    assert b"python_info" in response.body


def test_metrics_that_cannot_be_read_are_a_plain_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "secret"))
    response = visitor().get("/metrics")
    assert (response.status, response.body) == (500, b"the metrics cannot be read: ValueError\n")


def test_metrics_can_be_switched_off_and_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visitor(metrics=False).get("/metrics").status == 404
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    response = visitor().get("/metrics")
    assert response.status == 501
    assert b"pip install 'llm-guard-flow[prometheus]'" in response.body


@pytest.mark.parametrize("name", STATIC)
def test_files_are_served_and_not_sent_again(name: str) -> None:
    stranger = Visitor(Site(TOKEN))
    response = stranger.get(f"/{name}")
    assert response.status == 200
    assert response.body
    tag = header(response, "ETag")
    again = stranger.get(f"/{name}", if_none_match=tag)
    assert (again.status, again.body) == (304, b"")


def test_all_files_of_the_page_are_among_those_served() -> None:
    there = {path.name for path in resources.files("llm_guard.web.status").joinpath("static").iterdir()}
    assert there == {*STATIC, "page.html", "sign_in.html"}


def test_without_its_slash_the_page_leads_to_itself() -> None:
    response = Visitor(Site(TOKEN)).get("")
    assert (response.status, header(response, "Location")) == (308, "/guard/")


@pytest.mark.real
def test_a_built_package_has_the_files_of_the_page_and_its_types(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)], cwd=root, check=True,
                   capture_output=True, timeout=60)
    built = {path.name for path in (tmp_path / "llm_guard" / "web" / "status" / "static").iterdir()}
    assert built == {*STATIC, "page.html", "sign_in.html"}
    assert (tmp_path / "llm_guard" / "py.typed").exists()
