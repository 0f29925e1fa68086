"""The status page by a web framework's settings: off until somebody may see it, and then for nobody else."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from django_site import site
from flask import Flask, request
from status_visitor import TOKEN

from llm_guard import ConfigError
from llm_guard.web import settings
from llm_guard.web.flask import Guard

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def flask_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({f"LLM_GUARD_{name}": value for name, value in config.items()})
    Guard(app)
    return app


def may_look(request: Any) -> bool:
    return bool(request.headers.get("X-User") == "staff")


@pytest.mark.parametrize("config", [{}, {"STATUS_TOKEN": None}, {"STATUS_ACTIONS": True}, {"STATUS_ALLOWED": None}],
                         ids=["nothing", "no token", "actions", "nobody"])
def test_there_is_no_page_until_somebody_may_see_it(config: dict[str, Any]) -> None:
    client = flask_app(**config).test_client()
    assert {client.get(f"/guard{path}", headers=BEARER).status_code for path in ("", "/", "/live", "/metrics")} == {404}


def test_flask_has_the_page_for_who_has_the_token() -> None:
    client = flask_app(STATUS_TOKEN=TOKEN).test_client()
    assert client.get("/guard/status.json").status_code == 401
    assert client.get("/guard/live").status_code == 200
    found = client.get("/guard/status.json", headers=BEARER)
    assert (found.status_code, found.json and found.json["actions"]) == (200, True)


def test_flask_has_the_page_for_whom_a_function_allows() -> None:
    client = flask_app(STATUS_ALLOWED=lambda asked: asked is request._get_current_object()  # type: ignore[attr-defined]
                       and may_look(asked), STATUS_ACTIONS=False).test_client()
    assert client.get("/guard/status.json").status_code == 403
    found = client.get("/guard/status.json", headers={"X-User": "staff"})
    assert (found.status_code, found.json and found.json["actions"]) == (200, False)


def test_a_sign_in_holds_in_each_process_of_an_app_with_a_secret() -> None:
    apps = []
    for _ in range(2):
        app = Flask(__name__)
        app.secret_key = "of all processes"
        app.config["LLM_GUARD_STATUS_ALLOWED"] = may_look
        Guard(app)
        apps.append(app)
    keys = []
    for app in apps:
        client = app.test_client()
        client.set_cookie("llm_guard_form", "a" * 32, path="/guard/")
        keys.append(client.get("/guard/", headers={"X-User": "staff"}).text)
    assert keys[0] == keys[1]
    assert "form-key" in keys[0]


@pytest.mark.parametrize(("config", "status"), [
    ({}, 404), ({"STATUS_TOKEN": None}, 404), ({"STATUS_TOKEN": TOKEN}, 200), ({"STATUS_ALLOWED": may_look}, 403),
    ({"STATUS_ALLOWED": f"{__name__}.may_look"}, 403)], ids=["nothing", "no token", "token", "function", "dotted name"])
def test_django_has_the_page_where_it_is_included(config: dict[str, Any], status: int) -> None:
    from django.test import override_settings
    from django.urls import include, path

    with override_settings(LLM_GUARD=config):
        from llm_guard.web.django import status as page

        importlib.reload(page)  # the settings are read once in a process
    with site(path("guard/", include("llm_guard.web.django.status")), LLM_GUARD=config) as client:
        assert client.get("/guard/status.json", headers=BEARER).status_code == status
        if status == 403:
            assert client.get("/guard/status.json", headers={"X-User": "staff"}).status_code == 200
        elif status == 200:
            assert client.get("/guard/status.json").status_code == 401


@pytest.mark.parametrize("config", [
    {"STATUS_TOKEN": ""}, {"STATUS_TOKEN": "secret-4711"}, {"STATUS_TOKEN": 4711},
    {"STATUS_TOKN": "secret-4711-secret"}, {"STATUS_TOKN": b"secret-4711"}, {"STATUS_ALLOWED": "no.such.module"},
    {"STATUS_ALLOWED": True}, {"STATUS_ACTIONS": "no"}],
    ids=["empty", "short", "number", "misspelt", "misspelt bytes", "no module", "no function", "text"])
def test_what_cannot_work_is_refused_and_no_token_shown(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="LLM_GUARD_STATUS_") as refused:
        flask_app(**config)
    assert "4711" not in f"{refused.value}{refused.value.value}"


def test_settings_do_not_show_the_token() -> None:
    found, wrong = settings.read({"STATUS_TOKEN": TOKEN})
    assert not wrong
    assert TOKEN not in repr(found)
