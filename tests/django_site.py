"""A Django project for tests, and its URLs: imported, it is set up for this process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.test import Client, override_settings
from django.urls import URLPattern, path

GUARD = "llm_guard.web.django.middleware.GuardMiddleware"
_directory = tempfile.TemporaryDirectory()

if not settings.configured:
    settings.configure(
        SECRET_KEY="for sessions", ALLOWED_HOSTS=["*"], ROOT_URLCONF=ModuleType("no_urls"), USE_TZ=True,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions",
                        "llm_guard.web.django"],
        MIDDLEWARE=[GUARD, "django.contrib.sessions.middleware.SessionMiddleware",
                    "django.middleware.common.CommonMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3",
                               "NAME": str(Path(_directory.name) / "site.sqlite3")}})
    django.setup()


@contextmanager
def site(*urls: URLPattern, **changes: Any) -> Iterator[Client]:
    """A client of the project with these URLs and settings."""
    root = ModuleType("urls_of_a_test")
    root.urlpatterns = list(urls)  # type: ignore[attr-defined]
    with override_settings(ROOT_URLCONF=root, **changes):
        yield Client(raise_request_exception=False)


@contextmanager
def view_at_root(view: Any, **changes: Any) -> Iterator[Client]:
    with site(path("", view), **changes) as client:
        yield client
